#include "guard.h"

#include <cstdio>
#include <exception>

namespace {

// guarded returns what f does, or otherwise with the reason in e where it throws.
template <typename F, typename R> R guarded(ft_error *e, R otherwise, F f) {
	e->text[0] = 0;
	try {
		return f();
	} catch (const std::exception &x) {
		snprintf(e->text, sizeof e->text, "%s", x.what());
	} catch (...) {
		snprintf(e->text, sizeof e->text, "unknown C++ exception");
	}
	return otherwise;
}

} // namespace

ggml_backend_t ft_device_start(ggml_backend_dev_t device, ft_error *e) {
	return guarded(e, ggml_backend_t(nullptr), [&] { return ggml_backend_dev_init(device, nullptr); });
}

enum ggml_status ft_compute(ggml_backend_t backend, struct ggml_cgraph *graph, ft_error *e) {
	return guarded(e, GGML_STATUS_FAILED, [&] { return ggml_backend_graph_compute(backend, graph); });
}

void ft_device_memory(ggml_backend_dev_t device, size_t *free, size_t *total) {
	*free = *total = 0;
	ft_error ignored;
	guarded(&ignored, 0, [&] {
		ggml_backend_dev_memory(device, free, total);
		return 0;
	});
}

const struct ggml_backend_feature *ft_features(ggml_backend_dev_t device) {
	auto get = (ggml_backend_get_features_t)ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), "ggml_backend_get_features");
	return get ? get(ggml_backend_dev_backend_reg(device)) : nullptr;
}

const struct ggml_backend_feature *ft_next_feature(const struct ggml_backend_feature *f) { return f + 1; }
