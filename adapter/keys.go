package adapter

// Keys of adapter files. The general.* and adapter.* ones are llama.cpp's contract of a
// GGUF LoRA (src/llama-adapter.cpp, gguf-py/gguf/constants.py), which passes over the
// others. What the values of KeyKind are stands in the table of methods.
const (
	KeyType         = "general.type" // string, TypeAdapter
	KeyArchitecture = "general.architecture"
	KeyKind         = "adapter.type"       // string, KindLoRA for llama.cpp
	KeyAlpha        = "adapter.lora.alpha" // float32; 0 is a scale of 1
	// KeyInvocation holds the tokens behind which an aLoRA is switched on, uint32.
	KeyInvocation = "adapter.alora.invocation_tokens"

	TypeAdapter = "adapter"
	KindLoRA    = "lora"
	SuffixA     = ".lora_a" // of the tensors, behind the name of the weight: A, [n_in, rank]
	SuffixB     = ".lora_b" // B, [rank, n_out]
)

// Keys of this project.
const (
	KeyRank     = "finetune.rank" // uint32, the largest of the file
	KeyBaseName = "finetune.base.name"
	KeyBaseHash = "finetune.base.hash"

	// KeyMethod is the [Method] that the adapter was trained with, which for an
	// exported LoRA is not its own.
	KeyMethod = "finetune.method"
	// KeyExport says how a LoRA came from another adapter: "project", "heal" or "exact".
	KeyExport = "finetune.export"
	// KeyHistory lists what was done to the adapter after its training, a line each,
	// the last thing last.
	KeyHistory = "finetune.history"
	// KeyRetention holds the share of the gain that an exported file keeps, a float32.
	// What changes the factors makes it untrue and leaves it out.
	KeyRetention = "finetune.retention"

	// Keys of where an adapter comes from, for the caller to put into Meta. Exports and conversions keep them.
	KeyVersion      = "finetune.version"       // string, of the tool that trained it
	KeyTrainedRank  = "finetune.trained.rank"  // uint32, as the user gave it
	KeyTrainedAlpha = "finetune.trained.alpha" // float32, likewise
	KeyDataHash     = "finetune.data.hash"     // string, "sha256:" and 64 digits, of the training data's file; where it is several, of the windows made of them
	KeyBaseWeights  = "finetune.base.weights"  // string, model.Identity.Weights of the base
	KeyTemplateHash = "finetune.template.hash" // string, model.HashText of the chat template it was trained with
)
