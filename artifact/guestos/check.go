package guestos

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"unicode"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxName is the longest name of a GuestOS, a machine or an image, in bytes.
// File names such as NAME-VERSION.conf and IMAGE.hash.img must fit into the
// 255 bytes of Linux.
const maxName = 200

// maxIfName is the longest name of a network interface, in bytes (IFNAMSIZ-1).
const maxIfName = 15

// Validate checks what the schema cannot say:
//
//   - No string holds control characters; descriptions may hold line feeds and tabs.
//   - name, hardware and the image_file of every mount that has an image are safe
//     parts of file names; other image_files are paths without "..".
//   - image_sha1 is not used; the SHA-256 fields have 64 lower-case hex digits.
//   - Mounts do not contradict each other: one image has one size and hash.
//   - Smallest, default and largest values are in that order.
//
// lines, which may be nil, gives the places for the error: an *Error, or
// several of them joined.
func (x *GuestOSConfig) Validate(lines Lines) error {
	c := checker{lines: lines}
	c.text(x.ProtoReflect(), "")
	c.name("name", x.GetName())
	c.name("hardware", x.GetHardware())
	if x.InitPath != nil && !strings.HasPrefix(x.GetInitPath(), "/") {
		c.add("init_path", "%q is not an absolute path", x.GetInitPath())
	}
	if x.UpdateBaseUrl != nil {
		if u, err := url.Parse(x.GetUpdateBaseUrl()); err != nil || u.Scheme == "" {
			c.add("update_base_url", "%q is not an absolute URL", x.GetUpdateBaseUrl())
		}
	}
	c.ordered("min_ram_limit", x.MinRamLimit, "def_ram_limit", x.DefRamLimit)

	mounts := x.placedMounts()
	for _, m := range mounts {
		c.mount(m)
	}
	c.together(mounts)
	return errors.Join(c.errs...)
}

// Validate checks what the schema cannot say, as GuestOSConfig.Validate does:
// no control characters, safe names of the GuestOS, of images and of network
// interfaces, well-formed addresses.
func (x *ContainerConfig) Validate(lines Lines) error {
	c := checker{lines: lines}
	c.text(x.ProtoReflect(), "")
	if x.GetName() == "" {
		c.add("name", "is empty")
	}
	c.name("guest_os", x.GetGuestOs())
	images := make(map[string]bool)
	for i, s := range x.GetImageSizes() {
		path := fmt.Sprintf("image_sizes[%d].", i)
		c.name(path+"image_name", s.GetImageName())
		if images[s.GetImageName()] {
			c.add(path+"image_name", "second size for image %q", s.GetImageName())
		}
		images[s.GetImageName()] = true
		if s.ImageFile != nil {
			c.path(path+"image_file", s.GetImageFile())
		}
	}
	if x.DnsServer != nil {
		if _, err := netip.ParseAddr(x.GetDnsServer()); err != nil {
			c.add("dns_server", "%q is not an IP address", x.GetDnsServer())
		}
	}
	for i, n := range x.GetNetIfaces() {
		path := fmt.Sprintf("net_ifaces[%d].", i)
		if n.GetNetif() == "" {
			c.add(path+"netif", "is empty")
		}
		for j, mac := range n.GetMacFilter() {
			c.mac(fmt.Sprintf("%smac_filter[%d]", path, j), mac)
		}
	}
	names := make(map[string]bool)
	for i, v := range x.GetVnetConfigs() {
		path := fmt.Sprintf("vnet_configs[%d].", i)
		c.ifName(path+"if_name", v.GetIfName())
		if names[v.GetIfName()] {
			c.add(path+"if_name", "second interface %q", v.GetIfName())
		}
		names[v.GetIfName()] = true
		if v.IfRootnsName != nil {
			c.ifName(path+"if_rootns_name", v.GetIfRootnsName())
		}
		if v.IfMac != nil {
			c.mac(path+"if_mac", v.GetIfMac())
		}
	}
	return errors.Join(c.errs...)
}

// placedMount is a mount and its path in the config.
type placedMount struct {
	*GuestOSMount
	path string
}

// placedMounts returns all mounts, in the order of the schema.
func (x *GuestOSConfig) placedMounts() []placedMount {
	var all []placedMount
	for i, m := range x.GetMounts() {
		all = append(all, placedMount{m, fmt.Sprintf("mounts[%d]", i)})
	}
	for i, m := range x.GetMountsSetup() {
		all = append(all, placedMount{m, fmt.Sprintf("mounts_setup[%d]", i)})
	}
	return all
}

// NeedsImage says whether mounts of this type need a file IMAGE.img that is
// shipped with the GuestOS and checked against the config.
func (t GuestOSMount_MountType) NeedsImage() bool {
	switch t {
	case GuestOSMount_SHARED, GuestOSMount_FLASH, GuestOSMount_OVERLAY_RO, GuestOSMount_SHARED_RW, GuestOSMount_STORE_ONLY:
		return true
	default:
		return false
	}
}

// onHost says whether image_file is a path on the host instead of a name.
func (t GuestOSMount_MountType) onHost() bool {
	switch t {
	case GuestOSMount_DEVICE, GuestOSMount_DEVICE_RW, GuestOSMount_BIND_FILE, GuestOSMount_BIND_FILE_RW:
		return true
	default:
		return false
	}
}

// checker collects the faults of a config.
type checker struct {
	lines Lines
	errs  []error
}

func (c *checker) add(path, format string, args ...any) {
	c.errs = append(c.errs, &Error{c.lines[path], path, fmt.Sprintf(format, args...)})
}

// text refuses control characters in all strings of m.
func (c *checker) text(m protoreflect.Message, path string) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		path := join(path, string(fd.Name()))
		switch {
		case !m.Has(fd):
		case fd.IsList():
			list := m.Get(fd).List()
			for i := range list.Len() {
				c.textValue(fd, list.Get(i), fmt.Sprintf("%s[%d]", path, i))
			}
		default:
			c.textValue(fd, m.Get(fd), path)
		}
	}
}

func (c *checker) textValue(fd protoreflect.FieldDescriptor, v protoreflect.Value, path string) {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		c.text(v.Message(), path)
	case protoreflect.StringKind:
		isText := fd.Parent().Name() == (&I18NString{}).ProtoReflect().Descriptor().Name()
		for _, r := range v.String() {
			if unicode.IsControl(r) && !(isText && (r == '\n' || r == '\t')) {
				c.add(path, "%q holds the control character %q", v.String(), r)
				return
			}
		}
	}
}

// name refuses what is not safe as a part of a file name.
func (c *checker) name(path, name string) {
	switch {
	case name == "":
		c.add(path, "is empty")
	case len(name) > maxName:
		c.add(path, "name of %d bytes: at most %d are possible", len(name), maxName)
	case strings.Contains(name, "/"):
		c.add(path, "%q holds a slash: it must be a name, not a path", name)
	case strings.Contains(name, ".."):
		c.add(path, `%q holds ".."`, name)
	case name[0] == '.' || name[0] == '-':
		c.add(path, "%q starts with %q", name, name[0])
	case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		c.add(path, "%q holds a character that can't be seen", name)
	}
}

// path refuses a path that leads upwards.
func (c *checker) path(path, p string) {
	for element := range strings.SplitSeq(p, "/") {
		if element == ".." {
			c.add(path, `%q leads upwards by ".."`, p)
			return
		}
	}
}

func (c *checker) mount(m placedMount) {
	if m.GetMountType().onHost() {
		c.path(m.path+".image_file", m.GetImageFile())
		if m.GetImageFile() == "" {
			c.add(m.path+".image_file", "is empty")
		}
	} else {
		c.name(m.path+".image_file", m.GetImageFile())
	}
	c.path(m.path+".mount_point", m.GetMountPoint())
	c.ordered(m.path+".min_size", m.MinSize, m.path+".def_size", m.DefSize)
	c.ordered(m.path+".def_size", m.DefSize, m.path+".max_size", m.MaxSize)
	c.ordered(m.path+".min_size", m.MinSize, m.path+".max_size", m.MaxSize)

	if m.ImageSha1 != nil {
		c.add(m.path+".image_sha1", "SHA-1 must not be used any more: remove it, image_sha2_256 takes its place")
	}
	c.hex(m.path+".image_sha2_256", m.ImageSha2_256)
	c.hex(m.path+".image_verity_sha256", m.ImageVeritySha256)
	if m.ImageSize != nil && m.GetImageSize() == 0 {
		c.add(m.path+".image_size", "an image can't be empty")
	}
	if m.GetMountType().NeedsImage() && (m.ImageSize == nil) != (m.ImageSha2_256 == nil) {
		c.add(m.path, "image_size and image_sha2_256 of image %q belong together: one is missing", m.GetImageFile())
	}
}

// together refuses mounts that contradict each other.
func (c *checker) together(mounts []placedMount) {
	const treeOf = ".hash" // IMAGE.hash.img is the tree of IMAGE.img
	images := make(map[string]placedMount)
	for _, m := range mounts {
		if m.GetMountType().NeedsImage() {
			if _, ok := images[m.GetImageFile()]; !ok {
				images[m.GetImageFile()] = m
			}
		}
	}
	for _, m := range mounts {
		if !m.GetMountType().NeedsImage() {
			continue
		}
		name := m.GetImageFile()
		first := images[name]
		if m.GetImageSize() != first.GetImageSize() || m.GetImageSha2_256() != first.GetImageSha2_256() ||
			m.ImageVeritySha256 != nil && first.ImageVeritySha256 != nil && m.GetImageVeritySha256() != first.GetImageVeritySha256() {
			c.add(m.path, "image %q has another size or hash than in %s", name, first.path)
		}
		if other, ok := images[strings.TrimSuffix(name, treeOf)]; ok && strings.HasSuffix(name, treeOf) {
			c.add(m.path+".image_file", "image %q has the file name of the hash tree of %s", name, other.path)
		}
	}
	type place struct {
		list, image, point string
	}
	seen := make(map[place]string)
	for _, m := range mounts {
		list, _, _ := strings.Cut(m.path, "[")
		p := place{list, m.GetImageFile(), m.GetMountPoint()}
		if m.GetMountType().NeedsImage() && seen[p] != "" {
			c.add(m.path, "image %q is mounted at %q twice, see %s", p.image, p.point, seen[p])
		}
		seen[p] = m.path
	}
}

// hex refuses what is not a SHA-256 hash in lower-case hex; nil is none at all.
func (c *checker) hex(path string, s *string) {
	if s != nil && (len(*s) != 64 || strings.Trim(*s, "0123456789abcdef") != "") {
		c.add(path, "%q is not a SHA-256 hash of 64 lower-case hex digits", *s)
	}
}

// ordered refuses a smaller value that is larger than the larger one, if both
// are there. Defaults are the platform's affair.
func (c *checker) ordered(smallPath string, small *uint32, largePath string, large *uint32) {
	if small != nil && large != nil && *small > *large {
		name := largePath[strings.LastIndex(largePath, ".")+1:]
		c.add(smallPath, "%d is larger than %s, which is %d", *small, name, *large)
	}
}

func (c *checker) ifName(path, name string) {
	if name == "" || len(name) > maxIfName || strings.ContainsAny(name, "/ :") || name == "." || name == ".." {
		c.add(path, "%q is no name of a network interface (1 to %d bytes, no space, slash or colon)", name, maxIfName)
	}
}

func (c *checker) mac(path, mac string) {
	if hw, err := net.ParseMAC(mac); err != nil || len(hw) != 6 {
		c.add(path, "%q is not a MAC address", mac)
	}
}
