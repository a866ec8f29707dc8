// Package peer is the two ends that tests put around usher: raw clients that
// send exactly the bytes they are told to, and VMs that are scripted byte by
// byte and record what reached them.
package peer
