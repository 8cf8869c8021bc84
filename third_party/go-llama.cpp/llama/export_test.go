package llama

// CleanLog is tested by itself: what llama.cpp logs is not ours to choose.
var CleanLog = cleanLog
