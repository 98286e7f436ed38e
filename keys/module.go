package keys

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tmpki/internal/durable"
)

// EnvModule is the environment variable with the path of the PKCS#11 library
// for URIs that name none. OpenSSL's engine and the platform's build use it too.
const EnvModule = "PKCS11_MODULE_PATH"

// system is the PKCS#11 side of a process.
type system struct {
	load  func(path string) (cryptoki, error) // nil: this program is without PKCS#11
	env   func(name string) (string, bool)
	ask   func(prompt string) ([]byte, error) // on the terminal
	sleep func(time.Duration)

	mu        sync.Mutex
	libraries map[string]*library // by path, without links
}

// process is the one system of this process. PKCS#11 leaves no choice: a library
// is initialized once for each process, and a login holds for all of it, so a
// second owner would find every PIN accepted and end the sessions of the first.
var process = newSystem(loadCryptoki)

func newSystem(load func(string) (cryptoki, error)) *system {
	return &system{load: load, env: os.LookupEnv, ask: askOnTerminal, sleep: time.Sleep, libraries: map[string]*library{}}
}

// HavePKCS11 reports whether the program was built with PKCS#11.
func HavePKCS11() bool { return process.load != nil }

// CloseTokens ends all sessions with tokens and forgets their PINs. What was
// opened before can't be used afterwards.
func CloseTokens() { process.close() }

func (s *system) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.libraries {
		l.closed.Store(true)
		l.c.finalize() // what it could say helps nobody any more
	}
	s.libraries = map[string]*library{}
}

// library is a PKCS#11 library that was loaded and initialized.
type library struct {
	sys  *system
	path string
	c    cryptoki

	closed atomic.Bool // by CloseTokens: it stays so

	mu     sync.Mutex
	tokens map[identity]*token // those that were used
}

// library returns the library that a URI names, and loads it if it is the first
// to do so.
func (s *system) library(u PKCS11) (*library, error) {
	if s.load == nil {
		return nil, ErrNoPKCS11
	}
	path, err := s.modulePath(u)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.libraries[path]
	if l == nil {
		c, err := s.load(path)
		if err != nil {
			return nil, err
		}
		l = &library{sys: s, path: path, c: c, tokens: map[identity]*token{}}
		if err := l.initialize(); err != nil {
			return nil, err
		}
		s.libraries[path] = l
	}
	if u.LibraryManufacturer+u.LibraryDescription+u.LibraryVersion == "" {
		return l, nil
	}
	i, err := l.c.info()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	version := fmt.Sprintf("%d.%d", i.major, i.minor)
	if !matches(u.LibraryManufacturer, i.manufacturer) || !matches(u.LibraryDescription, i.description) ||
		!matches(u.LibraryVersion, version) && u.LibraryVersion != fmt.Sprint(i.major) {
		return nil, fmt.Errorf("%s is %q of %q, version %s: not the library that the URI describes", path, i.description, i.manufacturer, version)
	}
	return l, nil
}

func matches(want, is string) bool { return want == "" || want == is }

func (l *library) initialize() error {
	err := l.c.initialize()
	if ckrAlreadyInitialized.is(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("initializing %s: %w", l.path, err)
	}
	return nil
}

// modulePath returns the path of the library for a URI: module-path,
// module-name, or the environment's.
func (s *system) modulePath(u PKCS11) (string, error) {
	path, from := u.ModulePath, "module-path"
	switch {
	case path != "":
	case u.ModuleName != "":
		return findModule(u.ModuleName)
	default:
		from = EnvModule
		if path, _ = s.env(EnvModule); path == "" {
			return "", fmt.Errorf("no PKCS#11 library is named: put ?module-path=/path/of/library.so behind the key URI, or set %s", EnvModule)
		}
	}
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("%s: the path of a library must be absolute: %q", from, path)
	}
	return checkModule(path)
}

// checkModule returns a library's path without links. It is code that will run
// with our rights, so it must not be everybody's to change.
func checkModule(path string) (string, error) {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("PKCS#11 library: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("PKCS#11 library: %w", err)
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("PKCS#11 library: %s is not a file", path)
	}
	if info.Mode().Perm()&0o002 != 0 {
		return "", fmt.Errorf("PKCS#11 library: everybody may write to %s (mode %#o)", path, info.Mode().Perm())
	}
	return path, nil
}

// moduleDirs are searched for a module-name, the first that has it wins.
var moduleDirs = []string{
	"/usr/local/lib/pkcs11", "/usr/lib/*/pkcs11", "/usr/lib64/pkcs11", "/usr/lib/pkcs11",
	"/usr/local/lib", "/usr/lib/*-linux-*", "/usr/lib64", "/usr/lib", "/usr/lib/*", "/usr/lib64/*", "/usr/lib/*-linux-*/*", "/opt/*/lib", "/opt/*/lib64",
}

// findModule searches the usual directories for NAME.so or libNAME.so, and the
// modules that p11-kit knows, which is where RFC 7512, Section 2.3, has the name
// from.
func findModule(name string) (string, error) {
	pattern := strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(name)
	for _, dir := range moduleDirs {
		for _, file := range []string{pattern + ".so", "lib" + pattern + ".so"} {
			found, err := filepath.Glob(filepath.Join(dir, file))
			if err == nil && len(found) > 0 {
				return checkModule(found[0])
			}
		}
	}
	for _, dir := range []string{"/etc/pkcs11/modules", "/usr/share/p11-kit/modules"} {
		text, _, err := durable.ReadFile(filepath.Join(dir, name+".module"), MaxFileSize)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if path, ok := strings.CutPrefix(strings.TrimSpace(line), "module:"); ok && filepath.IsAbs(strings.TrimSpace(path)) {
				return checkModule(strings.TrimSpace(path))
			}
		}
	}
	return "", fmt.Errorf("module-name: no library %q in the usual directories, nor among p11-kit's modules: name its file with module-path", name)
}

// identity is how a token is known again after it was away.
type identity struct{ label, manufacturer, model, serial string }

// ErrNoToken is returned, wrapped, where a token is not there.
var ErrNoToken = errors.New("no token")

// missingToken says which token is not there, and which are.
type missingToken struct {
	want   string
	there  []place
	broken []error // slots that can't be read
}

func (e *missingToken) Error() string {
	text := fmt.Sprintf("no token %s: no token at all is there", e.want)
	if len(e.there) > 0 {
		text = fmt.Sprintf("no token %s: there are %s", e.want, strings.Join(placeNames(e.there), ", "))
	}
	for _, err := range e.broken {
		text += fmt.Sprintf("; %v", err)
	}
	return text
}

// Is makes it an ErrNoToken, and what lies in it is not there either.
func (e *missingToken) Is(target error) bool { return target == ErrNoToken || target == fs.ErrNotExist }

func (i identity) String() string {
	if i.serial == "" {
		return fmt.Sprintf("%q", i.label)
	}
	return fmt.Sprintf("%q (serial %s)", i.label, i.serial)
}

// tokenPart describes which token a URI means.
func (p PKCS11) tokenPart() string {
	t := PKCS11{Token: p.Token, Manufacturer: p.Manufacturer, Serial: p.Serial, Model: p.Model,
		SlotID: p.SlotID, SlotDescription: p.SlotDescription, SlotManufacturer: p.SlotManufacturer}
	switch {
	case t == PKCS11{}:
		return "for a URI that names none"
	case t == PKCS11{Token: p.Token}:
		return fmt.Sprintf("labelled %q", p.Token)
	default:
		return "like " + t.String()
	}
}

// place is a slot with an initialized token in it.
type place struct {
	slot uint
	info tokenInfo
}

func (p place) identity() identity {
	return identity{p.info.label, p.info.manufacturer, p.info.model, p.info.serial}
}

// places lists the slots whose token is initialized, and why others can't be
// read, which must not keep anybody from the rest. A library that somebody has
// finalized meanwhile is initialized again.
func (l *library) places() (list []place, broken []error, err error) {
	if l.closed.Load() {
		return nil, nil, errors.New("tokens were closed")
	}
	slots, err := l.c.slots()
	if ckrNotInitialized.is(err) {
		if err := l.initialize(); err != nil {
			return nil, nil, err
		}
		slots, err = l.c.slots()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("listing the tokens of %s: %w", l.path, err)
	}
	for _, slot := range slots {
		info, err := l.c.tokenInfo(slot)
		if ckrTokenNotPresent.is(err, ckrDeviceRemoved, ckrTokenNotRecognized) {
			continue // taken away this moment, or no token of this library
		}
		if err != nil {
			broken = append(broken, fmt.Errorf("the token in slot %d can't be read: %w", slot, err))
			continue
		}
		if info.flags&ckfTokenInitialized != 0 {
			list = append(list, place{slot, info})
		}
	}
	// Slots come in any order.
	slices.SortStableFunc(list, func(a, b place) int {
		return cmp.Or(strings.Compare(a.info.label, b.info.label), strings.Compare(a.info.serial, b.info.serial))
	})
	return list, broken, nil
}

// matching lists the places that a URI may mean. If there is none, it returns the
// *missingToken as missing.
func (l *library) matching(u PKCS11) (match []place, missing, err error) {
	all, broken, err := l.places()
	if err != nil {
		return nil, nil, err
	}
	for _, p := range all {
		if !matches(u.Token, p.info.label) || !matches(u.Manufacturer, p.info.manufacturer) ||
			!matches(u.Serial, p.info.serial) || !matches(u.Model, p.info.model) || !matches(u.SlotID, fmt.Sprint(p.slot)) {
			continue
		}
		if u.SlotDescription+u.SlotManufacturer != "" {
			slot, err := l.c.slotInfo(p.slot)
			if err != nil {
				return nil, nil, fmt.Errorf("slot %d of %s: %w", p.slot, l.path, err)
			}
			if !matches(u.SlotDescription, slot.description) || !matches(u.SlotManufacturer, slot.manufacturer) {
				continue
			}
		}
		match = append(match, p)
	}
	if len(match) == 0 {
		missing = &missingToken{u.tokenPart(), all, broken}
	}
	return match, missing, nil
}

func placeNames(list []place) []string {
	var names []string
	for _, p := range list {
		names = append(names, p.identity().String())
	}
	return names
}

// token returns the one token that a URI means.
func (s *system) token(u PKCS11) (*token, error) {
	l, err := s.library(u)
	if err != nil {
		return nil, err
	}
	match, missing, err := l.matching(u)
	if err != nil {
		return nil, err
	}
	switch {
	case len(match) == 0:
		return nil, missing
	case len(match) > 1:
		return nil, fmt.Errorf("%d tokens match %q: %s; name one by its serial", len(match), "pkcs11:"+u.String(), strings.Join(placeNames(match), ", "))
	}
	return l.use(match[0]), nil
}

// restart initializes the library anew for a token that was lost, since some
// libraries look for tokens then and not later. It ends the sessions of all
// tokens: so it does that once for each loss, but for a token that is the only
// one in use as often as that is missed.
func (l *library) restart(t *token) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed.Load() || !t.firstMiss() && len(l.tokens) > 1 {
		return false
	}
	return l.c.restart() == nil
}

// use returns the token at a place.
func (l *library) use(p place) *token {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tokens[p.identity()]
	if t == nil {
		t = &token{lib: l, identity: p.identity(), slot: p.slot, limit: poolSize(p.info)}
		t.freed = sync.NewCond(&t.mu)
		l.tokens[t.identity] = t
	}
	return t
}

// poolSize is how many sessions of a token sign at once: enough to keep every
// core and the way to a token in a network busy, and one less than the token
// has, for writing.
func poolSize(info tokenInfo) int {
	size := max(8, 2*runtime.GOMAXPROCS(0))
	if n := info.maxSessions; n != 0 && n != noLimit && n < uint(size)+1 {
		size = max(1, int(n)-1)
	}
	return size
}
