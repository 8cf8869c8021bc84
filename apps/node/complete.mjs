// Answers a request of proof_test.go with node-llama-cpp and its prebuilt llama.cpp.
import {readFileSync} from "node:fs";
import {getLlama} from "node-llama-cpp";

const request = JSON.parse(readFileSync(0, "utf8"));
const llama = await getLlama({gpu: false, build: "never", skipDownload: true, maxThreads: request.threads});
const model = await llama.loadModel({modelPath: request.model, gpuLayers: 0});
const answers = [], losses = {};

const tokensOf = (text) => {
    const tokens = model.tokenize(text, true);
    if (model.tokens.shouldPrependBosToken)
        tokens.unshift(model.tokens.bos);
    return tokens;
};

// of each token but the first, in nats
const lossesOf = async (sequence, text) => {
    const tokens = tokensOf(text);
    await sequence.clearHistory();
    const input = tokens.map((token, i) => i < tokens.length - 1 ? [token, {generateNext: {probabilities: true}}] : token);
    const output = await sequence.controlledEvaluate(input);
    return tokens.slice(1).map((token, i) => -Math.log(output[i].next.probabilities.get(token)));
};

for (const run of request.runs) {
    const lora = run.adapter ? {adapters: [{filePath: run.adapter, scale: 1}]} : undefined;
    const context = await model.createContext({contextSize: request.context, threads: request.threads, lora});
    const sequence = context.getSequence();
    for (const text of request.prompts) {
        const prompt = tokensOf(text);
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
    if (request.text)
        losses[run.name] = await lossesOf(sequence, request.text);
    await context.dispose();
}
process.stdout.write(JSON.stringify({version: `llama.cpp ${llama.llamaCppRelease.release}`, answers, losses}) + "\n", () => process.exit(0));
