package ggml

/*
#include "abi.h"
#include "guard.h"
*/
import "C"

import (
	"fmt"
	"slices"
	"strings"
	"unsafe"
)

// Device is what can hold tensors and run graphs: the CPU, or what a backend of this build found on the machine
// (ggml_backend_dev_t). The zero Device is none. Devices compare equal when they are the same, live as long as the process, and
// may be shared by goroutines.
type Device struct{ p C.ggml_backend_dev_t }

// DeviceType says what kind of thing a Device is (enum ggml_backend_dev_type).
type DeviceType int

// The types of devices.
const (
	DeviceCPU   DeviceType = C.GGML_BACKEND_DEVICE_TYPE_CPU
	DeviceGPU   DeviceType = C.GGML_BACKEND_DEVICE_TYPE_GPU   // with memory of its own
	DeviceIGPU  DeviceType = C.GGML_BACKEND_DEVICE_TYPE_IGPU  // integrated, with a part of the host's memory
	DeviceAccel DeviceType = C.GGML_BACKEND_DEVICE_TYPE_ACCEL // helps the CPU: BLAS, AMX
)

// String returns the type's name: "CPU", "GPU".
func (t DeviceType) String() string {
	switch t {
	case DeviceCPU:
		return "CPU"
	case DeviceGPU:
		return "GPU"
	case DeviceIGPU:
		return "integrated GPU"
	case DeviceAccel:
		return "accelerator"
	}
	return fmt.Sprintf("device of type %d", int(t))
}

// Devices lists what this build of ggml found, the CPU last. The first call starts the backends, which look for drivers; what
// they say of it is in the log. A backend without a driver or a device has none here.
func Devices() []Device {
	devices := make([]Device, C.ggml_backend_dev_count())
	for i := range devices {
		devices[i] = Device{C.ggml_backend_dev_get(C.size_t(i))}
	}
	return devices
}

// Backends names the backends in this build, such as "Vulkan" and "CPU", whether or not they found a device.
func Backends() []string {
	names := make([]string, C.ggml_backend_reg_count())
	for i := range names {
		names[i] = C.GoString(C.ggml_backend_reg_name(C.ggml_backend_reg_get(C.size_t(i))))
	}
	return names
}

// DevicePointer wraps a ggml_backend_dev_t that other native code returned.
func DevicePointer(p unsafe.Pointer) Device { return Device{C.ggml_backend_dev_t(p)} }

// Pointer returns the ggml_backend_dev_t.
func (d Device) Pointer() unsafe.Pointer { return unsafe.Pointer(d.p) }

// IsNil reports whether d is no device.
func (d Device) IsNil() bool { return d.p == nil }

// Name returns ggml's name, one device's own: "Vulkan0", "CUDA1", "MTL0", "CPU".
func (d Device) Name() string { return C.GoString(C.ggml_backend_dev_name(d.p)) }

// Description returns what the driver calls the device: "NVIDIA GeForce RTX 3060".
func (d Device) Description() string {
	return strings.TrimSpace(C.GoString(C.ggml_backend_dev_description(d.p)))
}

// Backend returns the name of the backend that found the device: "Vulkan", "CUDA", "MTL", "CPU".
func (d Device) Backend() string {
	return C.GoString(C.ggml_backend_reg_name(C.ggml_backend_dev_backend_reg(d.p)))
}

// Type returns what kind of device d is, as its backend sees it: see Software.
func (d Device) Type() DeviceType { return DeviceType(C.ggml_backend_dev_type(d.p)) }

// Software reports whether d is a GPU that the CPU pretends to be. ggml takes those for GPUs.
func (d Device) Software() bool {
	description := strings.ToLower(d.Description())
	return d.Type() != DeviceCPU && slices.ContainsFunc([]string{"llvmpipe", "lavapipe", "softpipe", "swiftshader", "basic render driver"},
		func(name string) bool { return strings.Contains(description, name) })
}

// Memory returns how much of the device's memory is free, and all of it, in bytes; 0 and 0 where the backend does not know.
func (d Device) Memory() (free, total int64) {
	var f, t C.size_t
	C.ft_device_memory(d.p, &f, &t)
	return int64(f), int64(t)
}

// MaxBuffer returns the most bytes that one buffer of the device may have.
func (d Device) MaxBuffer() int64 {
	return int64(min(C.ggml_backend_buft_get_max_size(C.ggml_backend_dev_buffer_type(d.p)), 1<<62))
}

// Features returns what the device's backend says that it was built with or found, "NAME=VALUE" or, where the value is 1,
// "NAME"; and what the device can do beside computing: "async", "host buffers", "buffers of mapped files", "events".
func (d Device) Features() []string {
	var features []string
	for f := C.ft_features(d.p); f != nil && f.name != nil; f = C.ft_next_feature(f) {
		name, value := C.GoString(f.name), C.GoString(f.value)
		if value != "1" {
			name += "=" + value
		}
		features = append(features, name)
	}
	var props C.struct_ggml_backend_dev_props
	C.ggml_backend_dev_get_props(d.p, &props)
	for _, can := range []struct {
		does bool
		name string
	}{{bool(props.caps.async), "async"}, {bool(props.caps.host_buffer), "host buffers"},
		{bool(props.caps.buffer_from_host_ptr), "buffers of mapped files"}, {bool(props.caps.events), "events"}} {
		if can.does {
			features = append(features, can.name)
		}
	}
	return features
}

// Supports reports whether the device can compute node, by its operation, types and shapes: nothing has to be allocated.
func (d Device) Supports(node Tensor) bool { return bool(C.ggml_backend_dev_supports_op(d.p, node.p)) }

// Holds reports whether the device can compute with a tensor where it lies: in its own memory, or in memory that it shares.
func (d Device) Holds(t Tensor) bool {
	return t.p.buffer != nil && bool(C.ggml_backend_dev_supports_buft(d.p, C.ggml_backend_buffer_get_type(t.p.buffer)))
}

// NewBackend starts a backend on the device. The caller closes it. It may fail where the driver refuses what ggml asks of it.
func (d Device) NewBackend() (*Backend, error) {
	if err := Check(); err != nil {
		return nil, err
	}
	var b Backend
	if e := C.ft_device_start(d.p, &b.p); e != nil {
		return nil, taken(e, fmt.Sprintf("device %s (%s) does not start", d.Name(), d.Description()))
	}
	return &b, nil
}

// Device returns the device that the backend runs on.
func (b *Backend) Device() Device { return Device{C.ggml_backend_get_device(b.p)} }

// Device returns the device in whose memory the tensor lies, none where it has no memory. Weights that were mapped lie on the
// CPU.
func (t Tensor) Device() Device {
	if t.p.buffer == nil {
		return Device{}
	}
	if d := C.ggml_backend_buft_get_device(C.ggml_backend_buffer_get_type(t.p.buffer)); d != nil {
		return Device{d}
	}
	return Device{C.ggml_backend_dev_by_type(C.GGML_BACKEND_DEVICE_TYPE_CPU)} // ordinary memory does not know whose it is
}

// OnHost reports whether Floats, Ints and Raw may be called: the tensor's memory is the host's.
func (t Tensor) OnHost() bool {
	return t.p.buffer == nil || bool(C.ggml_backend_buffer_is_host(t.p.buffer))
}
