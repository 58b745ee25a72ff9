package config

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/syscollective/saltpeter"
)

func TestSaltAPI(t *testing.T) {
	const good = "url: https://salt:8000, eauth: pam, user: sp, "
	for _, c := range []struct{ entry, want string }{
		{good + "password: hunter2", "a password can't stand here"},
		{good + "password_file: secret", "no absolute path"},
		{good, "password_file or password_env is wanted"},
		{good + "password_file: /a, password_env: B", "write one of"},
		{good + "password_env: a-b", "can't be meant"},
		{good + "password_file: /a, insecure: true, ca_file: /b", "leave out insecure or ca_file"},
		{good + "password_file: /a, cafile: /b", "did you mean ca_file?"},
		{"eauth: pam, user: sp, password_file: /a", "url is missing"},
		{"url: 'https://salt', user: sp, password_file: /a", "eauth is missing"},
		{"url: 'https://sp:hunter2@salt', eauth: pam, user: sp, password_file: /a", "can't hold user or password"},
		{"url: salt, eauth: pam, user: sp, password_file: /a", "not the address of a salt-api"},
	} {
		r := one("saltpeter_config: {salt_api: [{" + c.entry + "}]}\n")
		if r.OK() || !strings.Contains(r.String(), c.want) || !strings.Contains(r.String(), "salt_api[0]") || strings.Contains(r.String(), "hunter2") {
			t.Errorf("%s gives\n%swant %q", c.entry, r, c.want)
		}
	}
	for text, want := range map[string]string{
		"salt_api: x": "a list of endpoints is wanted", "salt_api: [x]": "a mapping with url",
		"salt_api: [{" + good + "password_file: /a}, {" + good + "password_file: /b}]": "is there twice",
	} {
		if r := one("saltpeter_config: {" + text + "}\n"); r.OK() || !strings.Contains(r.String(), want) {
			t.Errorf("%s gives\n%swant %q", text, r, want)
		}
	}
	r := one("saltpeter_config: {salt_api: [{" + good + "password_file: /a, ca_file: /b}, {url: 'http://10.0.0.1:8000/api', eauth: file, user: x, password_env: P, insecure: on}]}\n")
	want := []saltpeter.SaltAPI{
		{URL: "https://salt:8000", EAuth: "pam", User: "sp", PasswordFile: "/a", CAFile: "/b"},
		{URL: "http://10.0.0.1:8000/api", EAuth: "file", User: "x", PasswordEnv: "P", Insecure: true},
	}
	if !r.OK() || len(r.Problems) > 0 || !slices.Equal(r.Settings.SaltAPI, want) {
		t.Errorf("%+v\n%s", r.Settings.SaltAPI, r)
	}
	plain, err := json.Marshal(saltpeter.DefaultSettings())
	if err != nil || strings.Contains(string(plain), "salt_api") {
		t.Error("settings without it are not as before:", err)
	}
}
