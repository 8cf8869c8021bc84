package llama_test

import (
	"testing"

	//lint:ignore ST1019 by its name and with a dot, as upstream's own test does
	"github.com/go-skynet/go-llama.cpp"
	. "github.com/go-skynet/go-llama.cpp"
	. "github.com/go-skynet/go-llama.cpp/internal/dsl"
	"github.com/go-skynet/go-llama.cpp/internal/llamatest"
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
		model, err := New(llamatest.Model(GinkgoT()), append(opts, SetContext(128), SetMMap(true), SetNBatch(512))...)
		Expect(err).ToNot(HaveOccurred())
		Expect(model).ToNot(BeNil())
		GinkgoT().Cleanup(model.Free)
		return model
	}
	reference := llamatest.ReadReference(GinkgoT())
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
			text, err := load(EnableF16Memory, llama.EnableEmbeddings).Predict(reference.Prompt, greedily...)
			Expect(err).ToNot(HaveOccurred(), text)
			Expect(text).To(ContainSubstring("How many apples"), text)
		})

		It("predicts with the help of another", func() {
			model, draft := load(SetPerplexity(true)), load(SetPerplexity(true))
			By("letting the other one propose")
			text, err := model.SpeculativeSampling(draft, reference.Prompt, append(greedily, llama.SetNDraft(16))...)
			Expect(err).ToNot(HaveOccurred(), text)
			Expect(text).To(ContainSubstring("How many apples"), text)
		})

		It("tokenizes", func() {
			n, tokens, err := load().TokenizeString("How about a nice game of chess?", SetRopeFreqBase(10000), SetRopeFreqScale(1))
			Expect(err).ToNot(HaveOccurred())
			Expect(int(n)).To(Equal(len(tokens)))
		})
	})
})
