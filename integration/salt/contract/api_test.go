package contract

import (
	"testing"
	"time"

	"github.com/syscollective/saltpeter/integration/salt/saltrig"
	"github.com/syscollective/saltpeter/saltclient"
	"github.com/syscollective/saltpeter/saltclient/salttest"
)

// openAPI makes the way to the rig's first master through salt-api.
func openAPI(t *testing.T, r *saltrig.Rig) *saltclient.API {
	t.Helper()
	c := r.Credentials[0]
	a := saltclient.NewAPI(saltclient.APIOptions{
		URL: r.Masters[0].API, EAuth: c.EAuth, User: c.Username, Password: func() (string, error) { return c.Password, nil },
		Limit: 20 * time.Second, // as long as the suite is patient
	})
	t.Cleanup(a.Close)
	return a
}

func TestAPIKeepsTheContract(t *testing.T) {
	r := saltrig.Start(t, saltrig.Options{Minions: 5, IDs: []string{odd}, API: true})
	if err := r.Stop("mn05"); err != nil {
		t.Fatal(err)
	}
	a := openAPI(t, r)
	salttest.Contract(t, func(t *testing.T, check func(*testing.T, *salttest.Subject)) { check(t, subject(r, a)) })
}
