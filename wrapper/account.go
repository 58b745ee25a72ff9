package wrapper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// account is the user that a command runs as.
type account struct {
	Name   string `json:"name"`
	UID    int    `json:"uid"`
	GID    int    `json:"gid"`
	Groups []int  `json:"groups"`
	Home   string `json:"home"`
	Shell  string `json:"shell"`
	Switch bool   `json:"switch"` // we are somebody else
}

// lookupLimit bounds how long a directory may take to answer.
const lookupLimit = 10 * time.Second

// accountFor looks a user up; nil for the empty name, which means the wrapper's own.
func accountFor(ctx context.Context, name string) (*account, error) {
	if name == "" {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	line, err := passwdLine(ctx, name)
	if err != nil {
		return nil, err
	}
	f := strings.Split(line, ":")
	if len(f) < 7 {
		return nil, fmt.Errorf("look up user %q: malformed entry", name)
	}
	uid, err1 := strconv.Atoi(f[2])
	gid, err2 := strconv.Atoi(f[3])
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("look up user %q: %w", name, err)
	}
	a := &account{Name: f[0], UID: uid, GID: gid, Home: f[5], Shell: f[6], Switch: uid != os.Geteuid()}
	if a.Home == "" {
		a.Home = "/"
	}
	if a.Shell == "" {
		a.Shell = "/bin/sh"
	}
	if !a.Switch {
		return a, nil
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("run as user %q: the wrapper is not root", name)
	}
	a.Groups, err = groupsOf(ctx, a)
	return a, err
}

// passwdLine finds a user's entry in the local file, or by getent, which also asks directories such as LDAP that a static
// binary can't ask itself.
func passwdLine(ctx context.Context, name string) (string, error) {
	if strings.ContainsAny(name, ":\n\x00") || strings.HasPrefix(name, "-") {
		return "", fmt.Errorf("look up user %q: malformed name", name)
	}
	text, err := os.ReadFile("/etc/passwd")
	if err == nil {
		for line := range bytes.Lines(text) {
			if bytes.HasPrefix(line, []byte(name+":")) {
				return strings.TrimRight(string(line), "\n"), nil
			}
		}
	}
	out, err := exec.CommandContext(ctx, "getent", "passwd", name).Output()
	if err != nil || len(out) == 0 {
		return "", fmt.Errorf("look up user %q: %w", name, user.UnknownUserError(name))
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line, nil
}

// groupsOf lists the groups that initgroups would set. Where `id` is missing, the local file has to do.
func groupsOf(ctx context.Context, a *account) ([]int, error) {
	var ids []string
	out, err := exec.CommandContext(ctx, "id", "-G", a.Name).Output()
	if err == nil {
		ids = strings.Fields(string(out))
	} else {
		u := &user.User{Uid: strconv.Itoa(a.UID), Gid: strconv.Itoa(a.GID), Username: a.Name}
		if ids, err = u.GroupIds(); err != nil {
			return nil, fmt.Errorf("look up groups of %q: %w", a.Name, err)
		}
	}
	groups := make([]int, 0, len(ids))
	for _, id := range ids {
		gid, err := strconv.Atoi(id)
		if err != nil {
			return nil, fmt.Errorf("look up groups of %q: %w", a.Name, err)
		}
		groups = append(groups, gid)
	}
	return groups, nil
}

// enter makes the calling process the user's, for good.
func (a *account) enter() error {
	if err := syscall.Setgroups(a.Groups); err != nil {
		return fmt.Errorf("set groups of %q: %w", a.Name, err)
	}
	if err := syscall.Setgid(a.GID); err != nil {
		return fmt.Errorf("set group of %q: %w", a.Name, err)
	}
	if err := syscall.Setuid(a.UID); err != nil {
		return fmt.Errorf("set user %q: %w", a.Name, err)
	}
	return nil
}
