// Package columns prints tables for people. It owns how their columns are aligned, and how they are folded where a terminal is narrower
// than they are. What is in the cells is its callers', who make it fit for a terminal first. It serves every command that lists.
package columns
