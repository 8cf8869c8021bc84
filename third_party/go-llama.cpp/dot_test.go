package llama_test

import (
	"testing"

	//lint:ignore ST1019 by its name and with a dot, as upstream's own test does
	"github.com/go-skynet/go-llama.cpp"
	. "github.com/go-skynet/go-llama.cpp"
	. "github.com/go-skynet/go-llama.cpp/internal/dsl"
)

// Programs test themselves with the package imported by its name and with a dot, beside Ginkgo and Gomega, as upstream does.
// That this file compiles is the better half of the test.
func TestPackageIsImportedWithADotBesideGinkgosNames(t *testing.T) {
	RegisterFailHandler(Fail)
	if !RunSpecs(t, "go-llama.cpp beside Ginkgo") {
		t.Error("a spec failed")
	}
}

var _ = Describe("package llama", func() {
	load := func(opts ...ModelOption) *LLama {
		model, err := New(data(GinkgoT(), "models/stories260K-f32.gguf"), append(opts, SetContext(128), SetMMap(true), SetNBatch(512))...)
		Expect(err).ToNot(HaveOccurred())
		Expect(model).ToNot(BeNil())
		GinkgoT().Cleanup(model.Free)
		return model
	}
	greedily := []PredictOption{SetTemperature(0), SetPenalty(1), SetThreads(testThreads), SetTokens(16)}

	Context("without a model", func() {
		It("fails", func() {
			model, err := New("not-existing")
			Expect(err).To(HaveOccurred())
			Expect(model).To(BeNil())
		})
	})

	Context("with a model", Label("model"), func() {
		It("predicts", func() {
			text, err := load(EnableF16Memory, llama.EnableEmbeddings).Predict("Once upon a time", greedily...)
			Expect(err).ToNot(HaveOccurred(), text)
			Expect(text).To(ContainSubstring("there was a little"), text)
		})

		It("predicts with the help of another", func() {
			model, draft := load(SetPerplexity(true)), load(SetPerplexity(true))
			By("letting the other one propose")
			text, err := model.SpeculativeSampling(draft, "Once upon a time", append(greedily, llama.SetNDraft(16))...)
			Expect(err).ToNot(HaveOccurred(), text)
			Expect(text).To(ContainSubstring("there was a little"), text)
		})

		It("tokenizes", func() {
			n, tokens, err := load().TokenizeString("How about a nice game of chess?", SetRopeFreqBase(10000), SetRopeFreqScale(1))
			Expect(err).ToNot(HaveOccurred())
			Expect(int(n)).To(Equal(len(tokens)))
		})
	})
})
