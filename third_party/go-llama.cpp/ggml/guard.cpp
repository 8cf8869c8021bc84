#include "guard.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <initializer_list>
#include <stdexcept>
#include <string>

namespace {

// A backend aborts or logs on the thread that called it. Who had been told of aborts before is told of what is not a call's.
ggml_abort_callback_t earlier_abort = nullptr;

ft_error no_room = { true, "no memory to say why" };

thread_local bool aborts_throw = false;
thread_local std::string *logged = nullptr;
thread_local int last_level = 0;

// The process ends when this returns. The backend of CUDA aborts at any error of its driver, a lack of memory among them.
void on_abort(const char *message) {
	if (aborts_throw) throw std::runtime_error(message);
	if (earlier_abort) {
		earlier_abort(message);
	} else {
		fprintf(stderr, "%s\n", message);
	}
}

void on_log(enum ggml_log_level level, const char *text, void *) {
	if (level != GGML_LOG_LEVEL_CONT) last_level = level;
	if (logged && last_level == GGML_LOG_LEVEL_ERROR && logged->size() < sizeof ft_error::text) {
		try {
			*logged += text;
		} catch (...) { // without memory the line is lost, not the call
		}
	}
}

// Call is one call of a backend: what it logs as an error, and whether its aborts are thrown, which they must not be where other
// threads wait for this one.
class Call {
	std::string log;

public:
	Call(bool throws) { aborts_throw = throws, logged = &log; }
	~Call() { aborts_throw = false, logged = nullptr; }

	// failed returns why the call failed: what was logged says more than an exception, where it is there.
	ft_error *failed(const char *what, bool memory = false) {
		auto *e = static_cast<ft_error *>(malloc(sizeof(ft_error)));
		if (!e) return &no_room;
		const int line = int(log.find('\n') == std::string::npos ? log.size() : log.find('\n')); // its first
		if (line == 0) {
			snprintf(e->text, sizeof e->text, "%s", what);
		} else {
			snprintf(e->text, sizeof e->text, *what ? "%.*s (%s)" : "%.*s%s", line, log.c_str(), what);
		}
		e->memory = memory;
		for (const char *word : { "OutOfDeviceMemory", "OutOfHostMemory", "OutOfPoolMemory", "out of memory", "bad_alloc" }) e->memory |= strstr(e->text, word) != nullptr;
		return e;
	}
};

// guarded returns why f fails: it throws, or returns why itself.
template <typename F> ft_error *guarded(bool aborts, F f) {
	Call call(aborts);
	try {
		return f(call);
	} catch (const std::exception &x) {
		return call.failed(x.what());
	} catch (...) {
		return call.failed("unknown C++ exception");
	}
}

// done guards what returns nothing.
template <typename F> ft_error *done(F f) {
	return guarded(true, [&](Call &) -> ft_error * {
		f();
		return nullptr;
	});
}

// alone reports whether nothing waits for this thread while the backend computes: not so with the CPU's own threads.
bool alone(ggml_backend_t backend) { return ggml_backend_dev_type(ggml_backend_get_device(backend)) != GGML_BACKEND_DEVICE_TYPE_CPU; }

} // namespace

void ft_free_error(ft_error *e) {
	if (e != &no_room) free(e);
}

void ft_install(void) {
	earlier_abort = ggml_set_abort_callback(on_abort);
	ggml_log_set(on_log, nullptr);
}

ft_error *ft_device_start(ggml_backend_dev_t device, ggml_backend_t *started) {
	return guarded(true, [&](Call &call) {
		*started = ggml_backend_dev_init(device, nullptr);
		return *started ? nullptr : call.failed("");
	});
}

ft_error *ft_compute(ggml_backend_t backend, struct ggml_cgraph *graph) {
	return guarded(alone(backend), [&](Call &call) {
		const auto status = ggml_backend_graph_compute(backend, graph);
		return status == GGML_STATUS_SUCCESS ? nullptr : call.failed(ggml_status_to_string(status), status == GGML_STATUS_ALLOC_FAILED);
	});
}

void ft_device_memory(ggml_backend_dev_t device, size_t *free, size_t *total) {
	*free = *total = 0;
	ft_free_error(done([&] { ggml_backend_dev_memory(device, free, total); }));
}

// What cannot be allocated is said by no exception, and by no line of the log on some backends.
ft_error *ft_allocate_tensors(struct ggml_context *ctx, ggml_backend_t backend, ggml_backend_buffer_t *taken) {
	return guarded(true, [&](Call &call) {
		*taken = ggml_backend_alloc_ctx_tensors(ctx, backend);
		return *taken ? nullptr : call.failed("", true);
	});
}

ft_error *ft_allocate_graph(ggml_gallocr_t a, struct ggml_cgraph *graph, const int *at, const int *leaves) {
	return guarded(true, [&](Call &call) {
		const bool taken = (!at || ggml_gallocr_reserve_n(a, graph, at, leaves)) && ggml_gallocr_alloc_graph(a, graph);
		return taken ? nullptr : call.failed("", true);
	});
}

ft_error *ft_set(tensor t, const void *data, size_t bytes) { return done([&] { ggml_backend_tensor_set(t, data, 0, bytes); }); }
ft_error *ft_get(tensor t, void *data, size_t bytes) { return done([&] { ggml_backend_tensor_get(t, data, 0, bytes); }); }
ft_error *ft_zero(tensor t) { return done([&] { ggml_backend_tensor_memset(t, 0, 0, ggml_nbytes(t)); }); }
ft_error *ft_copy(tensor from, tensor to) { return done([&] { ggml_backend_tensor_copy(from, to); }); }

ft_error *ft_free_backend(ggml_backend_t b) { return done([&] { ggml_backend_free(b); }); }
ft_error *ft_free_buffer(ggml_backend_buffer_t b) { return done([&] { ggml_backend_buffer_free(b); }); }
ft_error *ft_free_allocator(ggml_gallocr_t a) { return done([&] { ggml_gallocr_free(a); }); }

const struct ggml_backend_feature *ft_features(ggml_backend_dev_t device) {
	auto get = (ggml_backend_get_features_t)ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), "ggml_backend_get_features");
	return get ? get(ggml_backend_dev_backend_reg(device)) : nullptr;
}

const struct ggml_backend_feature *ft_next_feature(const struct ggml_backend_feature *f) { return f + 1; }
