//go:build unix && cgo

package hostile

import (
	"math/rand/v2"
	"path"
	"strings"
)

// scenario is a kind of damage: files of the corpus, of which one is damaged, and the commands that read it.
type scenario struct {
	name     string
	weight   int
	files    []string // files and folders of the corpus
	victim   string   // a pattern of those that are damaged, below the run's folder; one of them is
	mutate   func(*rand.Rand, []byte) ([]byte, string)
	commands []string // separated by spaces; what they write is called out
}

// damagedName is the name that a model of the corpus has in a run's folder.
const damagedName = "model.gguf"

const quick = " --threads 1 --ctx 32"

var onModel = []string{
	"eval --model model.gguf --data train.txt" + quick,
	"eval --model model.gguf --data train.txt" + quick,
	"eval --model model.gguf --data train.jsonl --json" + quick,
	"eval --model model.gguf --data choices.jsonl --choices" + quick,
	"eval --model model.gguf --data choices.jsonl --choices --chat-template --samples out.jsonl --threads 1",
	"run --model model.gguf --prompt once --n 4 --temp 1" + quick,
	"run --model model.gguf --prompt once --n 4 --threads 1",
	"chat --model model.gguf --n 4" + quick,
	"train --model model.gguf --data train.txt --steps 1 --rank 2 --out out" + quick,
	"train --model model.gguf --data train.txt --steps 1 --rank 2 --method lora --out out" + quick,
	"train --model model.gguf --data train.jsonl --steps 1 --rank 2 --method dora --val-fraction 0 --out out" + quick,
	"train --model model.gguf --data train.txt --steps 1 --method full --out out" + quick,
	"train --model model.gguf --data train.txt --steps 1 --rank 2 --max-memory 100MiB --out out" + quick,
	"data check --model model.gguf --data train.jsonl",
	"data preview --model model.gguf --data train.jsonl",
	"data stats --model model.gguf --data train.txt",
	"inspect model.gguf", "inspect model.gguf --json",
	"init-model --vocab-from model.gguf --layers 1 --embd 32 --heads 2 --out out.gguf",
	"bench --model model.gguf --repeat 1 --method lora --rank 2" + quick,
}

// onBase wants the model to be the one that the adapters belong to.
var onBase = []string{
	"merge --model base.gguf --adapter lora.gguf --out out.gguf --threads 1",
	"eval --model base.gguf --adapter lora.gguf --data train.txt" + quick,
	"convert --from peft --to gguf --model base.gguf --out out.gguf",
	"convert --from lora.gguf --to peft --model base.gguf --out out",
	"export --run run-lora --model base.gguf --out out.gguf --threads 1",
	"export --run run-lora --model base.gguf --out out.gguf --ollama name --threads 1",
	"merge --model base.gguf --adapter run-dora --type q4_K --out out.gguf --threads 1",
}

var onAdapter = []string{
	"eval --model base.gguf --adapter lora.gguf --data train.txt" + quick,
	"run --model base.gguf --adapter lora.gguf:0.5 --prompt once --n 2" + quick,
	"merge --model base.gguf --adapter lora.gguf --out out.gguf --threads 1",
	"convert --from lora.gguf --to peft --model base.gguf --out out",
	"convert --from lora.gguf --to mlx --model base.gguf --out out",
	"adapter scale --in lora.gguf --by 0.5 --out out.gguf", "adapter rerank --in lora.gguf --rank 2 --out out.gguf",
	"adapter combine lora.gguf run-dual-lora/adapter.gguf --method ties --rank 4 --out out.gguf", "adapter combine lora.gguf lora.gguf --method dare --rank 4 --out out.gguf",
	"adapter diff lora.gguf run-lora/adapter.gguf", "adapter diff lora.gguf run-lora --model base.gguf --data train.txt --threads 1", "inspect lora.gguf --spectrum", "inspect lora.gguf --json",
	"train --init-from lora.gguf --model base.gguf --data train.txt --steps 1 --out out" + quick,
}

var onRun = []string{
	"export --run run-dual-lora --out out.gguf --threads 1", "export --run run-dual-lora --mode heal --heal-steps 2 --rank 2 --out out.gguf --threads 1",
	"export --run run-dual-lora --mode exact --out out.gguf --threads 1", "inspect run-dual-lora", "inspect run-dual-lora --json",
	"eval --model base.gguf --adapter run-dual-lora --data train.txt" + quick, "merge --model base.gguf --adapter run-dual-lora --out out.gguf --threads 1",
	"adapter rerank --in run-dual-lora --rank 2 --out out.gguf", "train --init-from run-dual-lora --model base.gguf --data train.txt --steps 1 --out out" + quick,
}

var onHalf = []string{"train --resume --out run-half", "train --resume --out run-half", "train --resume --out run-half --threads 1", "inspect run-half"}

// onData wants the name of a file of data in the place of DATA.
var onData = []string{
	"data check --model base.gguf --data DATA", "data preview --model base.gguf --data DATA", "data stats --model base.gguf --data DATA --json",
	"eval --model base.gguf --data DATA" + quick, "eval --model base.gguf --data other.txt --ngram DATA" + quick,
	"train --model base.gguf --data DATA --steps 1 --rank 2 --out out" + quick,
	"train --model base.gguf --data train.txt --val DATA --steps 1 --rank 2 --skip-bad 2 --out out" + quick,
	"init-model --train-bpe DATA --vocab-size 262 --layers 1 --embd 32 --heads 2 --out out.gguf",
}

func withData(name string, commands []string) []string {
	all := make([]string, len(commands))
	for i, c := range commands {
		all[i] = strings.ReplaceAll(c, "DATA", name)
	}
	return all
}

var scenarios = []scenario{
	{"model", 50, []string{damagedName, "train.txt", "train.jsonl", "choices.jsonl", "chat.txt"}, damagedName, MutateModel, onModel},
	{"base", 10, []string{"base.gguf", "train.txt", "lora.gguf", "peft", "run-lora", "run-dora"}, "base.gguf", MutateModel, onBase},
	{"adapter", 8, []string{"base.gguf", "lora.gguf", "train.txt", "run-lora", "run-dual-lora"}, "lora.gguf", MutateModel, onAdapter},
	{"adapter of a run", 5, []string{"base.gguf", "train.txt", "run-dual-lora"}, "run-dual-lora/adapter.gguf", MutateModel, onRun},
	{"imatrix", 3, []string{"base.gguf", "train.txt", "run-dual-lora"}, "run-dual-lora/imatrix.gguf", MutateModel, append(onRun[:3:3],
		"merge --model base.gguf --adapter run-dual-lora/adapter.gguf --imatrix run-dual-lora/imatrix.gguf --type q4_K --out out.gguf", "inspect run-dual-lora/imatrix.gguf")},
	{"config", 6, []string{"base.gguf", "train.txt", "run-dual-lora"}, "run-dual-lora/config.yaml", MutateText,
		append(onRun, "train --config run-dual-lora/config.yaml --out out", "train --config run-dual-lora/config.yaml --out out", "train --config run-dual-lora/config.yaml --steps 1 --out out")},
	{"log", 2, []string{"base.gguf", "train.txt", "run-dual-lora"}, "run-dual-lora/log.jsonl", MutateText, onRun},
	{"checkpoint", 6, []string{"base.gguf", "train.txt", "run-half"}, "run-half/checkpoint-*", MutateCheckpoint, onHalf},
	{"config of a half run", 3, []string{"base.gguf", "train.txt", "run-half"}, "run-half/config.yaml", MutateText, onHalf},
	{"peft tensors", 3, []string{"base.gguf", "peft", "train.txt"}, "peft/*.safetensors", MutateSafetensors, []string{"convert --from peft --to gguf --model base.gguf --out out.gguf", "train --init-from peft --model base.gguf --data train.txt --steps 1 --out out" + quick}},
	{"peft config", 3, []string{"base.gguf", "peft", "train.txt"}, "peft/*.json", MutateText, []string{"convert --from peft --to gguf --model base.gguf --out out.gguf", "train --init-from peft --model base.gguf --data train.txt --steps 1 --out out" + quick}},
	{"mlx", 3, []string{"base.gguf", "mlx"}, "mlx/*.safetensors", MutateSafetensors, []string{"convert --from mlx --to peft --model base.gguf --out out"}},
	{"mlx config", 2, []string{"base.gguf", "mlx"}, "mlx/*.json", MutateText, []string{"convert --from mlx --to gguf --model base.gguf --out out.gguf"}},
	{"text", 3, []string{"base.gguf", "other.txt", "train.txt"}, "train.txt", MutateText, withData("train.txt", onData)},
	{"messages", 4, []string{"base.gguf", "other.txt", "train.txt", "train.jsonl"}, "train.jsonl", MutateText, withData("train.jsonl", onData)},
	{"records", 2, []string{"base.gguf", "other.txt", "train.txt", "alpaca.json"}, "alpaca.json", MutateText, withData("alpaca.json", onData)},
	{"table", 2, []string{"base.gguf", "other.txt", "train.txt", "records.csv"}, "records.csv", MutateText, withData("records.csv", onData[:6:6])},
	{"archive", 2, []string{"base.gguf", "other.txt", "train.txt", "alpaca.jsonl.gz"}, "alpaca.jsonl.gz", MutateArchive, withData("alpaca.jsonl.gz", onData[:6:6])},
	{"choices", 2, []string{"base.gguf", "choices.jsonl"}, "choices.jsonl", MutateText, []string{"eval --model base.gguf --data choices.jsonl --choices --letters --threads 1", "eval --model base.gguf --data choices.jsonl --choices" + quick}},
	{"template", 5, []string{"base.gguf", "train.jsonl", "template.jinja"}, "template.jinja", MutateText, []string{"data preview --model base.gguf --data train.jsonl --template template.jinja",
		"data check --model base.gguf --data train.jsonl --template template.jinja", "train --model base.gguf --data train.jsonl --template template.jinja --steps 1 --rank 2 --out out" + quick}},
	{"split", 4, []string{"split-*", "lora.gguf", "train.txt"}, "split-*", MutateModel, []string{"inspect split-00001-of-*", "eval --model split-00001-of-* --data train.txt" + quick,
		"merge --model split-00001-of-* --adapter lora.gguf --out out.gguf --threads 1", "train --model split-00001-of-* --data train.txt --steps 1 --rank 2 --out out" + quick}},
}

// matches reports whether a pattern is that of a name.
func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}
