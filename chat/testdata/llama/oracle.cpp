// Answers questions with llama.cpp's own chat code, one JSON object a line in, one out. See README.md.
//
//   {"engine": true, "template": SOURCE, "vars": {…}}                      → {"text": …}          the Jinja engine alone
//   {"template": SOURCE, "messages": […], "tools": […], "args": {…},
//    "generate": bool, "bos": …, "eos": …}                                 → {"text": …, "caps": {…}}  as llama-server renders it
//   the same with "answer": TEXT                                           → {"message": {…}}     the answer as llama-server parses it
//   anything that fails                                                    → {"error": …}
#include "chat.h"
#include "json.h"
#include "log.h"

#include "jinja/lexer.h"
#include "jinja/parser.h"
#include "jinja/runtime.h"
#include "jinja/value.h"

#include <iostream>
#include <string>

using json = common_json;

static std::string engine(const json & in) {
	jinja::lexer lexer;
	auto lexed = lexer.tokenize(in.at("template").get<std::string>());
	jinja::program program = jinja::parse_from_tokens(lexed);
	jinja::context context(lexed.source);
	jinja::global_from_json(context, in.at("vars"), false);
	jinja::runtime runtime(context);
	return jinja::runtime::gather_string_parts(runtime.execute(program))->as_string().str();
}

static common_chat_templates_inputs inputs(const json & in) {
	common_chat_templates_inputs inputs;
	inputs.messages              = common_chat_msgs_parse_oaicompat(in.at("messages"));
	inputs.add_generation_prompt = in.value("generate", false);
	if (in.contains("tools")) {
		inputs.tools = common_chat_tools_parse_oaicompat(in.at("tools"));
	}
	if (in.contains("args")) {
		for (const auto & [key, value] : in.at("args").items()) {
			inputs.chat_template_kwargs[key] = value.dump();
		}
	}
	inputs.parallel_tool_calls = true;
	inputs.reasoning_format    = COMMON_REASONING_FORMAT_DEEPSEEK;
	return inputs;
}

static json server(const json & in) {
	auto templates = common_chat_templates_init(nullptr, in.at("template").get<std::string>(), in.value("bos", ""), in.value("eos", ""));
	auto params    = common_chat_templates_apply(templates.get(), inputs(in));
	json out       = json::object();
	if (!in.contains("answer")) {
		json caps = json::object();
		for (const auto & [name, has] : common_chat_templates_get_caps(templates.get())) {
			caps[name] = has;
		}
		out["text"] = params.prompt;
		out["caps"] = caps;
		return out;
	}
	common_chat_parser_params parser(params);
	parser.reasoning_format = COMMON_REASONING_FORMAT_DEEPSEEK;
	parser.parser.load(params.parser);
	out["message"] = common_chat_parse(in.at("answer").get<std::string>(), false, parser).to_json_oaicompat();
	return out;
}

int main() {
	common_log_set_verbosity_thold(-1);
	std::string line;
	while (std::getline(std::cin, line)) {
		json out = json::object();
		try {
			const json in = json::parse(line);
			if (in.value("engine", false)) {
				out["text"] = engine(in);
			} else {
				out = server(in);
			}
		} catch (const std::exception & e) {
			out["error"] = e.what();
		}
		std::cout << out.dump() << std::endl;
	}
}
