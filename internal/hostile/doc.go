// Package hostile damages files on purpose, files of every kind that the program reads, and lets the program read them. Only
// tests import it.
//
// The mutations know the formats: a GGUF file is taken apart, one to four things in it are changed (a number, the kind of a
// value, a shape, a type, the data of a tensor, the architecture as a whole), and it is put together again so that it is well
// formed but for what was changed. So damage reaches what lies behind the parsers. Everything follows from a seed and the number
// of the run.
package hostile
