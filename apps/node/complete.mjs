// Answers a request of proof_test.go with node-llama-cpp and its prebuilt llama.cpp.
import {readFileSync} from "node:fs";
import {getLlama} from "node-llama-cpp";

const request = JSON.parse(readFileSync(0, "utf8"));
const llama = await getLlama({gpu: false, build: "never", skipDownload: true, maxThreads: request.threads});
const model = await llama.loadModel({modelPath: request.model, gpuLayers: 0});
const answers = [];
for (const run of request.runs) {
    const lora = run.adapter ? {adapters: [{filePath: run.adapter, scale: 1}]} : undefined;
    const context = await model.createContext({contextSize: request.context, threads: request.threads, lora});
    const sequence = context.getSequence();
    for (const text of request.prompts) {
        const prompt = model.tokenize(text, true);
        if (model.tokens.shouldPrependBosToken)
            prompt.unshift(model.tokens.bos);
        await sequence.clearHistory();
        const tokens = [];
        // without options for penalties there are none; the end of the answer is not yielded
        for await (const token of sequence.evaluate(prompt, {temperature: 0})) {
            tokens.push(token);
            if (tokens.length >= request.tokens)
                break;
        }
        answers.push({run: run.name, prompt, tokens, text: model.detokenize(tokens)});
    }
    await context.dispose();
}
process.stdout.write(JSON.stringify({version: `llama.cpp ${llama.llamaCppRelease.release}`, answers}) + "\n", () => process.exit(0));
