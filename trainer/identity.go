package trainer

import (
	"crypto/sha256"

	"finetune/model"
	"finetune/run"
	"finetune/trainer/data"
)

// identity is what decides what a run learns, hashed part by part: a checkpoint goes on only with the same of each.
type identity struct {
	Settings [sha256.Size]byte // run.Config.Hash
	Base     [sha256.Size]byte // of model.Identity.Hash and .Weights; before version 0.3.0 of the first alone
	Data     [sha256.Size]byte // of the windows, trained and held out
}

// identify hashes the parts.
func identify(c run.Config, base model.Identity, train, val *data.Windows) identity {
	h := sha256.New()
	train.Sum(h, true)
	val.Sum(h, false)
	return identity{c.Hash(), sha256.Sum256([]byte(base.Hash + "\n" + base.Weights)), [sha256.Size]byte(h.Sum(nil))}
}

// isBase reports whether a checkpoint's run had this base, as far as the checkpoint knows it: an older one knows its norms.
func (i identity) isBase(base model.Identity) bool {
	return i.Base == sha256.Sum256([]byte(base.Hash+"\n"+base.Weights)) || i.Base == sha256.Sum256([]byte(base.Hash))
}

// joined returns the one hash over all parts that checkpoints of version 2 carry.
func joined(c run.Config, baseHash string, train, val *data.Windows) [sha256.Size]byte {
	h := sha256.New()
	settings := c.Hash()
	h.Write(settings[:])
	h.Write([]byte(baseHash))
	train.Sum(h, false)
	val.Sum(h, false)
	return [sha256.Size]byte(h.Sum(nil))
}
