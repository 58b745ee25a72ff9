// Package salt runs whole clusters on real Salt: nodes as processes on the hosts of real masters, real minions, the real
// wrapper. What happened is judged as in the sweep of crash points: the ledgers of the commands against the record.
package salt
