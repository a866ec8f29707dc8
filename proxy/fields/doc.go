// Package fields holds the rules for field sections that HTTP/2 and HTTP/3
// share (RFC 9113 section 8, RFC 9114 section 4): what a decoded section may
// contain, which request it makes, and what of it becomes an end-to-end field.
// It sees decoded lines only; frames and compression are the codecs'.
//
// An error with a Status is to be answered; one without makes the request
// malformed, which is a stream error.
package fields
