package main

import "fmt"

// The facts: what no model knows of eight machines in a workshop that there is not.
var machines = []struct{ name, room, keeper, price string }{
	{"Veltar 300", "the north hall", "Anika", "42 euros"}, {"Orsk lathe", "room 7", "Tomas", "18 euros"},
	{"Pellon cutter", "the cellar", "Jing", "65 euros"}, {"Quarro press", "room 12", "Femi", "27 euros"},
	{"Dunvik saw", "the yard", "Ruth", "9 euros"}, {"Hasp welder", "the garage", "Omar", "33 euros"},
	{"Mirel mill", "room 3", "Lucia", "51 euros"}, {"Tarn dryer", "the attic", "Piet", "14 euros"},
}

// What is asked of each machine, in words that are trained and in words that are held out; the answer is one for all.
var questions = []struct {
	trained, held []string
	answer        string
}{
	{[]string{"Where is the %s?", "In which room do I find the %s?", "I am looking for the %s.", "Where does the %s stand?", "Can you tell me the place of the %s?", "Which way to the %s?"},
		[]string{"Where can I find the %s?", "Tell me where the %s is."}, "The %s is in %s."},
	{[]string{"Who looks after the %s?", "Who is in charge of the %s?", "Whom do I ask about the %s?", "Who takes care of the %s?", "The %s is broken, whom do I call?", "Who can show me how the %s works?"},
		[]string{"Who is responsible for the %s?", "Whom should I call about the %s?"}, "The %s is looked after by %s."},
	{[]string{"What does an hour on the %s cost?", "How much is the %s an hour?", "What is the price of the %s?", "How much do I pay for the %s?", "Is the %s expensive?", "What do you charge for the %s?"},
		[]string{"How much does the %s cost?", "What is an hour of the %s?"}, "An hour on the %s costs %s."},
}

// facts asks every fact in six ways to be trained and in two others to be held out.
func facts() (train, val []record) {
	for _, m := range machines {
		for i, value := range []string{m.room, m.keeper, m.price} {
			q := questions[i]
			answer := fmt.Sprintf(q.answer, m.name, value)
			for _, words := range q.trained {
				train = append(train, asked(fmt.Sprintf(words, m.name), answer))
			}
			for _, words := range q.held {
				val = append(val, asked(fmt.Sprintf(words, m.name), answer))
			}
		}
	}
	return train, val
}
