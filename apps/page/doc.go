// Package page holds the tests of the page in a browser, headless Chromium: that it opens, grows with a run, survives a reload, stops
// the run and talks to it, asks nothing of anybody else, and takes little time. Without Chromium they are skipped and say so.
//
// SHOTS=dir in the environment keeps pictures of what they saw, light and dark, wide and narrow.
package page
