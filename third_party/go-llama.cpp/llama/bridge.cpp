// The bridge: every call that may throw, with the exception turned into a code and a text before it reaches Go.
#include "bridge.h"

#include <ggml-cpu.h>
#include <pthread.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

ggml_backend_dev_t fl_no_devices[1] = { nullptr };

// ---- log

// Exported by log.go and model.go.
extern "C" void flGoLog(int level, char *text);
extern "C" bool flGoProgress(float progress, uintptr_t handle);

namespace {

std::atomic<bool> log_forward{false};

// The library logs on the thread that called it, so what belongs to a call is what this thread logs while it runs.
thread_local std::string *capture = nullptr;
thread_local bool mute = false;
thread_local int last_level = 0;

// Package ggml has taken both before, for what its own calls do.
ggml_log_callback earlier_log = nullptr;
void *earlier_user = nullptr;
ggml_abort_callback_t earlier_abort = nullptr;

void on_log(enum ggml_log_level level, const char *text, void *) {
	earlier_log(level, text, earlier_user);
	if (level != GGML_LOG_LEVEL_CONT) last_level = level;
	if (capture && last_level == GGML_LOG_LEVEL_ERROR && capture->size() < FL_ERROR_SIZE) {
		try {
			*capture += text;
		} catch (...) { // without memory the line is lost, not the call
		}
	}
	if (log_forward && !mute) flGoLog(level, const_cast<char *>(text));
}

// of_device reports whether a message, which begins with the path of a source file, is that of a GPU's backend.
bool of_device(const char *message) {
	for (const char *backend : { "ggml-cuda", "ggml-vulkan", "ggml-metal" }) {
		if (strstr(message, backend)) return true;
	}
	return false;
}

thread_local bool asserts_throw = false;

// A failed assertion ends the process when this returns. Most of them guard what a file says (a token twice in the
// vocabulary, say), on the thread that loads it, below nothing but functions that can be unwound: there it is thrown.
// The same holds for the backends of GPUs wherever they are called from, which no other thread waits for: CUDA's aborts at any
// error of its driver, a lack of memory among them.
void on_assert(const char *message) {
	if (asserts_throw || (capture && of_device(message))) throw std::runtime_error(message);
	earlier_abort(message);
}

// Errors gathers what is logged at error level as long as it lives, and hands it to the caller on demand.
class Errors {
	std::string text;
	fl_error *out;
	std::string *outer_capture;
	bool outer_throw;

public:
	Errors(fl_error *out, bool asserts) : out(out), outer_capture(capture), outer_throw(asserts_throw) {
		out->text[0] = 0;
		capture = &text;
		asserts_throw = asserts;
	}
	~Errors() {
		capture = outer_capture;
		asserts_throw = outer_throw;
	}

	void report() { put(text.c_str()); }
	void put(const char *s) { snprintf(out->text, sizeof out->text, "%s", s); }
	void exception() {
		try {
			throw;
		} catch (const std::exception &e) {
			put(e.what());
		} catch (...) {
			put("unknown C++ exception");
		}
	}
};

// guarded runs f, which returns a pointer that is NULL on failure.
template <typename F> auto guarded_pointer(fl_error *err, F f) -> decltype(f()) {
	Errors errors(err, true);
	try {
		auto p = f();
		if (!p) errors.report();
		return p;
	} catch (...) {
		errors.exception();
		return nullptr;
	}
}

// guarded_code runs f, which returns a code. failed says which codes are failures.
template <typename F, typename P> int32_t guarded_code(fl_error *err, F f, P failed, bool asserts = true) {
	Errors errors(err, asserts);
	try {
		int32_t code = f();
		if (failed(code)) errors.report();
		return code;
	} catch (...) {
		errors.exception();
		return FL_EXCEPTION;
	}
}

bool not_zero(int32_t code) { return code != 0; }
bool negative(int32_t code) { return code < 0; }

bool on_progress(float progress, void *handle) { return flGoProgress(progress, reinterpret_cast<uintptr_t>(handle)); }

} // namespace

void fl_install(void) {
	ggml_log_get(&earlier_log, &earlier_user);
	llama_log_set(on_log, nullptr);
	earlier_abort = ggml_set_abort_callback(on_assert);
}

void fl_log_forward(bool on) { log_forward = on; }

// ---- model, adapters, context

llama_model *fl_load_model(const char *path, struct llama_model_params params, uintptr_t progress, fl_error *err) {
	if (progress) {
		params.progress_callback = on_progress;
		params.progress_callback_user_data = reinterpret_cast<void *>(progress);
	}
	return guarded_pointer(err, [&] { return llama_model_load_from_file(path, params); });
}

llama_context *fl_new_context(llama_model *model, struct llama_context_params params, fl_error *err) {
	return guarded_pointer(err, [&] { return llama_init_from_model(model, params); });
}

llama_adapter_lora *fl_load_adapter(llama_model *model, const char *path, fl_error *err) {
	return guarded_pointer(err, [&] { return llama_adapter_lora_init(model, path); });
}

int32_t fl_set_adapters(llama_context *ctx, llama_adapter_lora **adapters, size_t n, float *scales, fl_error *err) {
	return guarded_code(err, [&] { return llama_set_adapters_lora(ctx, adapters, n, scales); }, not_zero);
}

int32_t fl_quantize(const char *in, const char *out, enum llama_ftype ftype, int threads, fl_error *err) {
	auto params = llama_model_quantize_default_params();
	params.ftype = ftype;
	params.nthread = threads;
	return guarded_code(err, [&] { return (int32_t)llama_model_quantize(in, out, &params); }, not_zero);
}

// ---- text

namespace {

// longest_run returns the bytes of the longest piece of text that is all white space or has none. No tokenizer's patterns match
// across its ends.
size_t longest_run(const char *text, int32_t len) {
	size_t longest = 0, run = 0;
	bool last = false;
	for (int32_t i = 0; i < len; i++) {
		const bool space = strchr(" \t\n\r\v\f", text[i]) && text[i];
		run = space == last ? run + 1 : 1;
		last = space;
		if (run > longest) longest = run;
	}
	return longest;
}

// Many vocabularies split text by std::regex, which in libstdc++ calls itself for each character that a piece goes on, with
// 370 bytes of stack: 22,000 letters without a space end a thread of 8 MiB.
constexpr size_t flat_run = 512, stack_of_byte = 1024, stack_besides = 1 << 20;

// deep runs f where the stack is deep enough for a run of text.
template <typename F> int32_t deep(size_t run, fl_error *err, F f) {
	if (run <= flat_run) return f();
	struct Call {
		F &f;
		int32_t code;
	} call = { f, FL_EXCEPTION };
	const size_t wanted = (stack_besides + run * stack_of_byte) & ~size_t(0xffff); // whole pages
	pthread_attr_t attributes;
	pthread_t thread;
	bool started = false;
	if (pthread_attr_init(&attributes) == 0) {
		auto start = [](void *p) -> void * {
			auto *c = static_cast<Call *>(p);
			c->code = c->f();
			return nullptr;
		};
		started = pthread_attr_setstacksize(&attributes, wanted) == 0 && pthread_create(&thread, &attributes, start, &call) == 0;
		pthread_attr_destroy(&attributes);
	}
	if (started) {
		pthread_join(thread, nullptr);
	} else {
		snprintf(err->text, sizeof err->text, "no stack of %zu MiB for a text with %zu bytes without a space, or of nothing else", wanted >> 20, run);
	}
	return call.code;
}

} // namespace

int32_t fl_tokenize(const llama_vocab *vocab, const char *text, int32_t len, int32_t *tokens, int32_t max, bool add_special,
	bool parse_special, fl_error *err) {
	auto failed = [](int32_t n) { return n == INT32_MIN; };
	return deep(longest_run(text, len), err, [&] {
		return guarded_code(err, [&] { return llama_tokenize(vocab, text, len, tokens, max, add_special, parse_special); }, failed);
	});
}

int32_t fl_token_to_piece(const llama_vocab *vocab, int32_t id, char *buf, int32_t size, bool special) {
	fl_error ignored;
	return guarded_code(&ignored, [&] { return llama_token_to_piece(vocab, id, buf, size, 0, special); }, negative);
}

int32_t fl_detokenize(const llama_vocab *vocab, const int32_t *tokens, int32_t n, char *buf, int32_t size,
	bool remove_special, bool unparse_special) {
	fl_error ignored;
	return guarded_code(&ignored, [&] { return llama_detokenize(vocab, tokens, n, buf, size, remove_special, unparse_special); },
		negative);
}

int32_t fl_apply_template(const char *tmpl, const char *const *roles, const char *const *contents, size_t n,
	bool add_assistant, char *buf, int32_t size, fl_error *err) {
	return guarded_code(err, [&] {
		std::vector<llama_chat_message> chat(n);
		for (size_t i = 0; i < n; i++) chat[i] = { roles[i], contents[i] };
		return llama_chat_apply_template(tmpl, chat.data(), n, add_assistant, buf, size);
	}, negative);
}

// ---- decoding

int32_t fl_decode(llama_context *ctx, int32_t n, int32_t *tokens, int32_t *pos, int32_t *seq, int8_t *output, fl_error *err) {
	return guarded_code(err, [&] {
		std::vector<int32_t> one(n, 1);
		std::vector<int32_t *> ids(n + 1, nullptr);
		for (int32_t i = 0; i < n; i++) ids[i] = seq + i;
		llama_batch batch = { n, tokens, nullptr, pos, one.data(), ids.data(), output };
		return llama_decode(ctx, batch);
	}, not_zero, false); // other threads wait for this one: unwinding it would leave them behind
}

// ---- state

int32_t fl_state_save(llama_context *ctx, const char *path, const int32_t *tokens, size_t n, fl_error *err) {
	return guarded_code(err, [&] { return llama_state_save_file(ctx, path, tokens, n) ? 0 : 1; }, not_zero);
}

int32_t fl_state_load(llama_context *ctx, const char *path, int32_t *tokens, size_t capacity, size_t *n, fl_error *err) {
	return guarded_code(err, [&] { return llama_state_load_file(ctx, path, tokens, capacity, n) ? 0 : 1; }, not_zero);
}

size_t fl_state_get(llama_context *ctx, uint8_t *dst, size_t size, fl_error *err) {
	size_t n = 0;
	guarded_code(err, [&] { n = dst ? llama_state_get_data(ctx, dst, size) : llama_state_get_size(ctx); return n ? 0 : 1; }, not_zero);
	return n;
}

size_t fl_state_set(llama_context *ctx, const uint8_t *src, size_t size, fl_error *err) {
	size_t n = 0;
	guarded_code(err, [&] { n = llama_state_set_data(ctx, src, size); return n == size ? 0 : 1; }, not_zero);
	return n;
}

// ---- trace

struct fl_trace {
	bool on = false;
	bool overflow = false;
	std::vector<ggml_tensor *> nodes;
};

namespace {

// Asked about a node before it runs: false keeps it in one run with the nodes around it, so while tracing the whole graph
// is listed before its first node runs. Called from inside C code, hence nothing may be thrown.
bool on_node(ggml_tensor *node, bool ask, void *user) {
	auto *t = static_cast<fl_trace *>(user);
	if (!ask) return true;
	if (!t->on) return false;
	try {
		t->nodes.push_back(node);
	} catch (...) {
		t->overflow = true;
	}
	return false;
}

bool should_abort(void *user) { return static_cast<fl_trace *>(user)->on; }

} // namespace

fl_trace *fl_trace_new(void) { return new (std::nothrow) fl_trace; }
void fl_trace_free(fl_trace *t) { delete t; }

void fl_trace_use(fl_trace *t, struct llama_context_params *params, bool list_nodes) {
	if (list_nodes) {
		params->cb_eval = on_node;
		params->cb_eval_user_data = t;
	}
	params->abort_callback = should_abort;
	params->abort_callback_data = t;
}

int32_t fl_stopped_decode(fl_trace *t, llama_context *ctx, int32_t n, int32_t *tokens, int32_t *pos, int32_t *seq,
	int8_t *output, fl_error *err) {
	t->nodes.clear();
	t->overflow = false;
	t->on = mute = true; // that the decode was stopped is logged as an error
	int32_t code = fl_decode(ctx, n, tokens, pos, seq, output, err);
	t->on = mute = false;
	if (t->overflow) {
		snprintf(err->text, sizeof err->text, "out of memory for the list of nodes");
		return FL_EXCEPTION;
	}
	return code;
}

size_t fl_trace_len(const fl_trace *t) { return t->nodes.size(); }
ggml_tensor *const *fl_trace_nodes(const fl_trace *t) { return t->nodes.data(); }

// ---- sampling

struct fl_sampler {
	llama_sampler *penalties, *chain;
	int32_t spared; // this token is not penalized; -1: all are
	std::vector<llama_token_data> candidates;
};

fl_sampler *fl_sampler_new(int32_t n_vocab, int32_t spared) {
	try {
		auto *s = new fl_sampler{ nullptr, nullptr, spared, {} };
		s->candidates.resize(n_vocab);
		s->penalties = llama_sampler_chain_init({ true });
		s->chain = llama_sampler_chain_init({ true });
		return s;
	} catch (...) {
		return nullptr;
	}
}

void fl_sampler_free(fl_sampler *s) {
	llama_sampler_free(s->penalties);
	llama_sampler_free(s->chain);
	delete s;
}

static bool add_to(llama_sampler *chain, llama_sampler *part) {
	if (!part) return false;
	try {
		llama_sampler_chain_add(chain, part);
		return true;
	} catch (...) {
		return false;
	}
}

bool fl_sampler_add_penalty(fl_sampler *s, llama_sampler *part) { return add_to(s->penalties, part); }
bool fl_sampler_add(fl_sampler *s, llama_sampler *part) { return add_to(s->chain, part); }

llama_sampler *fl_sampler_grammar(const llama_vocab *vocab, const char *grammar, fl_error *err) {
	return guarded_pointer(err, [&] { return llama_sampler_init_grammar(vocab, grammar, "root"); });
}

int32_t fl_sampler_sample(fl_sampler *s, const float *logits, fl_error *err) {
	return guarded_code(err, [&] {
		const int32_t n = (int32_t)s->candidates.size();
		for (int32_t i = 0; i < n; i++) s->candidates[i] = { i, logits[i], 0 };
		llama_token_data_array cur = { s->candidates.data(), (size_t)n, -1, false };
		llama_sampler_apply(s->penalties, &cur);
		// penalties keep the order, so the spared token still stands at its own index
		if (s->spared >= 0 && s->spared < n) cur.data[s->spared].logit = logits[s->spared];
		llama_sampler_apply(s->chain, &cur);
		if (cur.selected < 0 || (size_t)cur.selected >= cur.size) throw std::runtime_error("no token is left to choose");
		return cur.data[cur.selected].id;
	}, negative);
}

int32_t fl_sampler_accept(fl_sampler *s, int32_t token, bool chosen, fl_error *err) {
	return guarded_code(err, [&] {
		llama_sampler_accept(s->penalties, token);
		if (chosen) llama_sampler_accept(s->chain, token);
		return 0;
	}, not_zero);
}

// ---- check

namespace {

enum { CANARY_BYTES = 1024 };
struct room { unsigned char bytes[CANARY_BYTES]; };

// written calls f, a function returning some struct by value, as if it returned one of CANARY_BYTES, and finds the last
// byte it wrote. Both ABIs in use return such a struct through a hidden pointer, whatever its size. A byte that happens to
// equal the canary is found with the second one.
size_t written(void (*f)(void)) {
	size_t last = 0;
	for (int canary : { 0xA5, 0x5A }) {
		alignas(16) unsigned char buf[CANARY_BYTES];
		memset(buf, canary, sizeof buf);
		__asm__ volatile("" : : "r"(buf) : "memory"); // the compiler may not know that buf is about to be overwritten
#if defined(__x86_64__)
		reinterpret_cast<void *(*)(void *)>(f)(buf);
#else
		new (buf) room(reinterpret_cast<room (*)(void)>(f)());
#endif
		__asm__ volatile("" : : "r"(buf) : "memory");
		for (size_t i = sizeof buf; i > last; i--)
			if (buf[i - 1] != canary) last = i;
	}
	return last;
}

} // namespace

size_t fl_written_model_params(void) { return written(reinterpret_cast<void (*)(void)>(llama_model_default_params)); }
size_t fl_written_context_params(void) { return written(reinterpret_cast<void (*)(void)>(llama_context_default_params)); }
size_t fl_written_quantize_params(void) { return written(reinterpret_cast<void (*)(void)>(llama_model_quantize_default_params)); }

int fl_compiled_features(void) {
	return (ggml_cpu_has_avx2() ? FL_AVX2 : 0) | (ggml_cpu_has_fma() ? FL_FMA : 0);
}

int fl_cpu_features(void) {
	int f = 0;
#if defined(__x86_64__)
	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx2")) f |= FL_AVX2;
	if (__builtin_cpu_supports("fma")) f |= FL_FMA;
#endif
	return f;
}
