#include "guard.h"

#include <cstdio>
#include <cstring>
#include <exception>
#include <initializer_list>
#include <new>
#include <stdexcept>
#include <string>

namespace {

// A backend aborts or logs on the thread that called it. Who had been told of aborts before is told of what is not a call's.
ggml_abort_callback_t earlier_abort = nullptr;

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

	// fail writes down why the call failed: what was logged says more than an exception, where it is there.
	void fail(ft_error *e, const char *what) {
		const std::string line = log.substr(0, log.find('\n'));
		if (line.empty()) {
			snprintf(e->text, sizeof e->text, "%s", what);
		} else {
			snprintf(e->text, sizeof e->text, "%s (%s)", line.c_str(), what);
		}
		for (const char *word : { "OutOfDeviceMemory", "OutOfHostMemory", "OutOfPoolMemory", "out of memory", "bad_alloc" }) e->memory |= strstr(e->text, word) != nullptr;
	}
};

// guarded returns what f does, or otherwise with the reason in e where it throws.
template <typename F, typename R> R guarded(ft_error *e, bool aborts, R otherwise, F f) {
	e->text[0] = 0, e->memory = false;
	Call call(aborts);
	try {
		return f();
	} catch (const std::exception &x) {
		call.fail(e, x.what());
	} catch (...) {
		call.fail(e, "unknown C++ exception");
	}
	return otherwise;
}

// done guards what returns nothing.
template <typename F> void done(ft_error *e, F f) {
	guarded(e, true, 0, [&] {
		f();
		return 0;
	});
}

// alone reports whether nothing waits for this thread while the backend computes: not so with the CPU's own threads.
bool alone(ggml_backend_t backend) { return ggml_backend_dev_type(ggml_backend_get_device(backend)) != GGML_BACKEND_DEVICE_TYPE_CPU; }

} // namespace

void ft_install(void) {
	earlier_abort = ggml_set_abort_callback(on_abort);
	ggml_log_set(on_log, nullptr);
}

ggml_backend_t ft_device_start(ggml_backend_dev_t device, ft_error *e) {
	return guarded(e, true, ggml_backend_t(nullptr), [&] { return ggml_backend_dev_init(device, nullptr); });
}

enum ggml_status ft_compute(ggml_backend_t backend, struct ggml_cgraph *graph, ft_error *e) {
	return guarded(e, alone(backend), GGML_STATUS_FAILED, [&] { return ggml_backend_graph_compute(backend, graph); });
}

void ft_device_memory(ggml_backend_dev_t device, size_t *free, size_t *total) {
	*free = *total = 0;
	ft_error ignored;
	done(&ignored, [&] { ggml_backend_dev_memory(device, free, total); });
}

ggml_backend_buffer_t ft_allocate_tensors(struct ggml_context *ctx, ggml_backend_t backend, ft_error *e) {
	return guarded(e, true, ggml_backend_buffer_t(nullptr), [&] { return ggml_backend_alloc_ctx_tensors(ctx, backend); });
}

bool ft_allocate_graph(ggml_gallocr_t a, struct ggml_cgraph *graph, const int *at, const int *leaves, ft_error *e) {
	return guarded(e, true, false, [&] { return (!at || ggml_gallocr_reserve_n(a, graph, at, leaves)) && ggml_gallocr_alloc_graph(a, graph); });
}

void ft_set(tensor t, const void *data, size_t bytes, ft_error *e) { done(e, [&] { ggml_backend_tensor_set(t, data, 0, bytes); }); }
void ft_get(tensor t, void *data, size_t bytes, ft_error *e) { done(e, [&] { ggml_backend_tensor_get(t, data, 0, bytes); }); }
void ft_zero(tensor t, ft_error *e) { done(e, [&] { ggml_backend_tensor_memset(t, 0, 0, ggml_nbytes(t)); }); }
void ft_copy(tensor from, tensor to, ft_error *e) { done(e, [&] { ggml_backend_tensor_copy(from, to); }); }

void ft_free_backend(ggml_backend_t b, ft_error *e) { done(e, [&] { ggml_backend_free(b); }); }
void ft_free_buffer(ggml_backend_buffer_t b, ft_error *e) { done(e, [&] { ggml_backend_buffer_free(b); }); }
void ft_free_allocator(ggml_gallocr_t a, ft_error *e) { done(e, [&] { ggml_gallocr_free(a); }); }

const struct ggml_backend_feature *ft_features(ggml_backend_dev_t device) {
	auto get = (ggml_backend_get_features_t)ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), "ggml_backend_get_features");
	return get ? get(ggml_backend_dev_backend_reg(device)) : nullptr;
}

const struct ggml_backend_feature *ft_next_feature(const struct ggml_backend_feature *f) { return f + 1; }
