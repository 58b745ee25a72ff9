// Command torture runs three nodes as they are built, each on a disk and in a network of its own, hurts one of them after the
// other while jobs run, and judges what is left with package rig: kill -9, a stop of four seconds, an end in good order, a
// network that is cut both ways or one way, a disk that is frozen, for longer than the watchdog waits too, or full, and syncs
// that fail. What is done to whom, in which order and for how long is drawn from a seed.
//
// Each node has a network namespace that a bridge in this program's own connects, and an ext4 file system on a loop device,
// mounted in this program's own mount namespace. Namespaces have no names and belong to processes, so that nothing collides
// with another run and nothing of them is left when these processes have ended. The program runs itself twice: the outer one
// waits for the inner one, which has the namespaces, and ends whatever is left of it even if it was killed.
//
// Goroutines belong to the function that starts them and are waited for there.
package main
