package chat_test

import (
	"fmt"
	"log"

	"finetune/chat"
	"finetune/model/native"
)

// Write a question as the demo's base model was taught to read it, ready for its answer.
func Example() {
	m, err := native.Open("../demo/base.gguf")
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	template, ok := m.ChatTemplate("")
	fmt.Println("template:", ok)
	prompt, err := chat.Prompt(template, m.Vocab(), []chat.Message{{Role: "user", Content: "Ruth found 6 shells."}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(prompt)
	// Output:
	// template: true
	// <|im_start|>user
	// Ruth found 6 shells.<|im_end|>
	// <|im_start|>assistant
}
