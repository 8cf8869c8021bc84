package trainer

import (
	"errors"
	"fmt"

	"finetune/device"
	"finetune/internal/hint"
	"finetune/internal/machine"
	"finetune/trainer/graph"

	"github.com/go-skynet/go-llama.cpp/ggml"
)

// DevicePlan is the memory that a run takes on a device in bytes, by what it is for.
type DevicePlan struct {
	Name        string `json:"name"`
	Layers      int    `json:"layers"`  // of the base that are there, the output matrix counted as one; -1: all
	Weights     int64  `json:"weights"` // theirs
	Adapter     int64  `json:"adapter"`
	Gradients   int64  `json:"gradients"`
	Activations int64  `json:"activations"`
	Head        int64  `json:"head"`
	Constants   int64  `json:"constants"`
	Limit       int64  `json:"limit,omitempty"` // --max-memory, or what is free; 0: not known
}

// newDevicePlan returns what an engine takes on its device.
func newDevicePlan(on device.Placement, s graph.DeviceSizes, limit int64) *DevicePlan {
	return &DevicePlan{Name: on.String(), Layers: on.Layers, Weights: s.Weights, Adapter: s.Adapter, Gradients: s.Gradients,
		Activations: s.Activations, Head: s.Head, Constants: s.Constants, Limit: limit}
}

// Parts lists the parts in the order in which people think of them.
func (p DevicePlan) Parts() []Part {
	return []Part{{"weights", p.Weights}, {"adapter", p.Adapter}, {"gradients", p.Gradients}, {"activations", p.Activations},
		{"head", p.Head}, {"constants", p.Constants}}
}

// Total returns the sum of the parts, in bytes.
func (p DevicePlan) Total() int64 { return total(p.Parts()) }

// String returns the plan on one line, in MiB.
func (p DevicePlan) String() string { return listed(p.Parts()) }

// DeviceMemoryError is the refusal of a run that needs more memory than a device has. It carries what would fit as hints.
type DeviceMemoryError struct {
	What  string     // that does not fit
	Plan  DevicePlan // the least there is
	Given bool       // Plan.Limit is a setting, not what the device has
}

// Error names what does not fit, the limit and the plan.
func (e *DeviceMemoryError) Error() string {
	limit := "free memory of device " + e.Plan.Name
	if e.Given {
		limit = "max-memory of device " + e.Plan.Name
	}
	return fmt.Sprintf("trainer: %s %d MiB: %s needs at least %d MiB there: %v", limit, machine.Mebibytes(e.Plan.Limit), e.What,
		machine.Mebibytes(needed(e.Plan.Total())), e.Plan)
}

// deviceLimit returns the bytes that a run may take on the device: MaxMemory, or what is free there; 0 = not known.
func (d Demand) deviceLimit() int64 {
	if d.MaxMemory > 0 {
		return d.MaxMemory
	}
	free, _ := d.On.Device.Memory()
	return free
}

// fitDevice has the engine recompute as much as the memory of the device asks for, and reports whether that is enough.
func (d Demand) fitDevice(e *graph.Engine) (bool, error) {
	limit := d.deviceLimit()
	if limit == 0 {
		return true, nil
	}
	s := e.Sizes()
	available := usable(limit) - (s.Device.Total() - s.Work())
	if err := e.FitMemory(available); err != nil {
		return false, err
	}
	return e.Sizes().Device.Total() <= usable(limit), nil
}

// refuseDevice returns the error that one sequence needs p on the device, and as hints what would fit: the longest context, halved
// until it does, or the most layers.
func (d Demand) refuseDevice(p Plan) error {
	var hints []string
	fits := func(smaller Demand) (bool, error) {
		e, _, err := smaller.engine(1)
		if e != nil {
			err = e.Close()
		}
		return e != nil && err == nil, err
	}
	for shorter := d; len(hints) == 0 && shorter.Ctx/2 >= leastCtx; {
		shorter.Ctx /= 2
		if ok, err := fits(shorter); err != nil {
			return err
		} else if ok {
			hints = append(hints, fmt.Sprintf("--ctx %d fits", shorter.Ctx))
		}
	}
	layers := d.layersThere()
	for fewer := d; layers > 1; {
		layers /= 2
		fewer.On.Layers = layers
		if ok, err := fits(fewer); err != nil {
			return err
		} else if ok {
			hints = append(hints, fmt.Sprintf("--gpu-layers %d fits, the others stay on the CPU", layers))
			break
		}
	}
	if len(hints) == 0 {
		hints = append(hints, "--device cpu trains without it")
	}
	return hint.With(&DeviceMemoryError{What: fmt.Sprintf("one sequence of %d tokens", d.Ctx), Plan: *p.Device, Given: d.MaxMemory > 0}, hints...)
}

// layersThere returns how many layers are to be on the device, the output matrix counted as one.
func (d Demand) layersThere() int {
	all := d.Model.NLayer() + 1
	if d.On.Layers < 0 || d.On.Layers > all {
		return all
	}
	return d.On.Layers
}

// withoutRoom adds what takes less to the error of a device that has not even memory for the factors, which is taken before there is a
// plan. Any other error stays as it is.
func (d Demand) withoutRoom(err error) error {
	if d.On.OnCPU() || !errors.Is(err, ggml.ErrNoMemory) {
		return err
	}
	if half := d.layersThere() / 2; half > 0 {
		return hint.With(err, fmt.Sprintf("--gpu-layers %d takes half as much on device %s, the others stay on the CPU", half, d.On))
	}
	return hint.With(err, "--device cpu trains without it")
}

// OutOfMemory adds to the error of a device that had less memory than planned what takes three quarters of the plan p there: other
// programs take some, and what a driver takes by itself is in no plan. Any other error stays as it is. The engine has to be closed.
func (d Demand) OutOfMemory(err error, p Plan) error {
	if p.Device == nil || !errors.Is(err, ggml.ErrNoMemory) {
		return err
	}
	free, _ := d.On.Device.Memory()
	err = fmt.Errorf("trainer: device %s has less memory than the %d MiB that were planned, %d MiB are free: %w", p.Device.Name,
		machine.Mebibytes(p.Device.Total()), machine.Mebibytes(free), err)
	d.MaxMemory = p.Device.Total() / 4 * 3
	e, _, refused := d.Engine()
	if refused != nil {
		return hint.With(err, hint.Of(refused)...)
	}
	if closed := e.Close(); closed != nil {
		return errors.Join(err, closed)
	}
	return hint.With(err, fmt.Sprintf("--max-memory %dKiB takes less of it, in more time", d.MaxMemory>>10))
}
