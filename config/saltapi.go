package config

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/syscollective/saltpeter"
)

// maxEndpoints bounds salt_api: each is asked how it is every few seconds, by every node.
const maxEndpoints = 32

// saltAPIKeys are what an entry of salt_api may hold.
var saltAPIKeys = []string{"url", "eauth", "user", "password_file", "password_env", "ca_file", "insecure"}

const saltAPIHint = "write salt_api: [{url: 'https://salt:8000', eauth: sharedsecret, user: saltpeter, password_file: /etc/saltpeter-salt-api}]"

// hideSecrets comes first: passwords that stand where they may not are in no problem, whatever it is about.
func (r settingsReader) hideSecrets() {
	f, _ := r.get("salt_api")
	if f.val == nil {
		return
	}
	for _, v := range f.val.list {
		for _, in := range v.fields {
			if in.name == "password" || (in.name == "url" && strings.Contains(in.val.text, "@")) {
				in.key.hide()
				in.val.hide()
			}
		}
	}
}

// saltAPI reads the endpoints of Salt masters on which no node stands.
func (r settingsReader) saltAPI() {
	f, ok := r.get("salt_api")
	if !ok {
		return
	}
	if f.val.kind != kindList {
		r.fail(f, saltAPIHint, "is %s, a list of endpoints is wanted", f.val.kind)
		return
	}
	if len(f.val.list) > maxEndpoints {
		r.fail(f, "", "has %d endpoints (allowed: up to %d)", len(f.val.list), maxEndpoints)
		return
	}
	seen := make(map[string]bool)
	for i, v := range f.val.list {
		e := field{fmt.Sprintf("salt_api[%d]", i), f.key, v}
		if v.kind != kindMap {
			r.fail(e, saltAPIHint, "is %s, a mapping with url, eauth, user and password_file is wanted", v.kind)
			continue
		}
		endpoint := r.endpoint(e)
		if endpoint.URL != "" && seen[endpoint.URL] {
			r.fail(e, "leave one out", "the endpoint %s is there twice", endpoint.URL)
		}
		seen[endpoint.URL] = true
		r.s.SaltAPI = append(r.s.SaltAPI, endpoint)
	}
}

// endpoint reads one entry.
func (r settingsReader) endpoint(e field) saltpeter.SaltAPI {
	in := newReader(r.report, e.val, r.inner(e.name))
	out := saltpeter.SaltAPI{
		EAuth: in.matching("eauth", eauthForm, "write the module of external_auth: sharedsecret, pam, ldap, file, ..."),
		User:  in.matching("user", userForm, "write a user of external_auth"),
		URL:   in.endpointURL(), PasswordFile: in.absolute("password_file"), CAFile: in.absolute("ca_file"),
		Insecure: in.flag("insecure", false),
	}
	if _, ok := in.get("password_env"); ok {
		out.PasswordEnv = in.matching("password_env", envForm, "write the name of an environment variable of the nodes, such as SALT_API_PASSWORD")
	}
	if f, ok := in.m.field("password"); ok {
		in.used["password"] = true
		// At the key, and without the value: problems are shown.
		in.errorf(f.key.at(), in.inner("password"), "write password_file: /path or password_env: NAME",
			"a password can't stand here: the configuration is shown by every node, and kept by all")
	} else if (out.PasswordFile == "") == (out.PasswordEnv == "") {
		in.errorf(e.at(), in.path, "write one of password_file: /path and password_env: NAME", "password_file or password_env is wanted")
	}
	if out.Insecure && out.CAFile != "" {
		f, _ := in.get("insecure")
		in.fail(f, "leave out insecure or ca_file", "insecure takes any certificate, whatever ca_file holds")
	}
	in.unknown(func(f field) {
		in.errorf(f.key.at(), in.inner(f.name), unknownHint(f.name, append([]string(nil), saltAPIKeys...)), "%s is not a key of salt_api", f.name)
	})
	return out
}

var (
	eauthForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	userForm  = regexp.MustCompile(`^[^\x00-\x20\x7f]{1,256}$`)
	envForm   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// matching gives a text that must be there, of a form.
func (r *reader) matching(key string, form *regexp.Regexp, hint string) string {
	f, ok := r.get(key)
	if !ok {
		r.errorf(r.m.at(), r.inner(key), hint, "%s is missing", key)
		return ""
	}
	text := r.text(key, "")
	if text != "" && !form.MatchString(text) {
		r.fail(f, hint, "%s can't be meant", f.val.described())
		return ""
	}
	return text
}

// absolute gives a file's path, empty where there is none.
func (r *reader) absolute(key string) string {
	text := r.text(key, "")
	if text != "" && !filepath.IsAbs(text) {
		f, _ := r.get(key)
		r.fail(f, "write the whole path, the same on every node", "%q is no absolute path", text)
		return ""
	}
	return text
}

func (r *reader) endpointURL() string {
	const hint = "write such as https://salt.example:8000"
	f, ok := r.get("url")
	if !ok {
		r.errorf(r.m.at(), r.inner("url"), hint, "url is missing")
		return ""
	}
	text := r.text("url", "")
	if err := checkEndpoint(text); err != nil {
		r.fail(f, hint, "%v", err)
		return ""
	}
	return text
}

// checkEndpoint says what is wrong without the text: it may hold a password.
func checkEndpoint(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		return errors.New("not the address of a salt-api")
	case u.User != nil:
		return errors.New("the address can't hold user or password: it is shown by every node")
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("the address can't hold ? or #")
	}
	return nil
}
