package keys

// golden is what fixed(1) gives.
var golden = map[string]string{
	"id":     "ffbc12afee6d92ea",
	"node":   "9d81779bec74c9d1c03fd232f78cb169793c7f53dbc458666e364d670e908951",
	"pin":    "d48128073f360fab14b24c69c52499288a719eee39022408f6693dc181747d91",
	"sni":    "b4b25c3691c173ff95b7f619ee54ee5ffcd144a0.wrappers.saltpeter",
	"token":  "BPLHHrLShPyJaI4o5hysyDiSE1Z9mtdcXj7ODQyqSUg",
	"gossip": "c9a1159b3c70e104a38df1b910fb6b52ef2336a7daecfb69470d67011e111d9b",
}
