// Package contract holds real Salt to what saltclient promises: the ways to a master keep salttest's contract on a rig of
// masters and minions, also when the master is killed and stopped.
package contract
