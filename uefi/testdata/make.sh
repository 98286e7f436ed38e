#!/bin/sh
# Makes the keys, certificates and signature lists of these tests anew. The
# platform's sample files, which README.md names, stay.
set -eu
cd "$(dirname "$0")"

certify() { # name, arguments of genpkey
	name=$1; shift
	openssl genpkey "$@" -out "$name.key"
	openssl req -x509 -new -key "$name.key" -subj "/C=DE/O=Test/CN=$name" -days 36500 \
		-addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature -out "$name.crt"
}
certify signer -algorithm RSA -pkeyopt rsa_keygen_bits:2048
certify other -algorithm RSA -pkeyopt rsa_keygen_bits:2048
certify ec -algorithm EC -pkeyopt ec_paramgen_curve:P-256
for refused in 'rsa1024 RSA 1024' 'rsa8192 RSA 8192' 'pss RSA-PSS 2048'; do
	set -- $refused
	certify "$1" -algorithm "$2" -pkeyopt "rsa_keygen_bits:$3"
	rm "$1.key"
done
certify ed25519 -algorithm ED25519
rm ed25519.key

owner=11111111-2222-3333-4444-555566667777
cert-to-efi-sig-list -g $owner signer.crt signer.esl
cert-to-efi-sig-list -g $owner other.crt other.esl
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for i in 1 2; do
	echo "long efi_main(void) { return $i; }" >"$work/$i.c"
	gcc -fpic -ffreestanding -c "$work/$i.c" -o "$work/$i.o"
	ld -nostdlib -T /usr/lib/elf_x86_64_efi.lds -shared -Bsymbolic -L/usr/lib \
		/usr/lib/crt0-efi-x86_64.o "$work/$i.o" -o "$work/$i.so" -lefi -lgnuefi 2>/dev/null
	objcopy -j .text -j .sdata -j .data -j .dynamic -j .dynsym -j .rel -j .rela -j .reloc -S \
		--target efi-app-x86_64 "$work/$i.so" "$work/$i.efi"
done
hash-to-efi-sig-list "$work/1.efi" "$work/2.efi" hashes.esl
sign-efi-sig-list -t '2026-01-02 03:04:05' -k signer.key -c signer.crt PK signer.esl PK-by-signer.auth
sign-efi-sig-list -a -t '2026-01-02 03:04:05' -k signer.key -c signer.crt dbx hashes.esl dbx-append.auth
: >"$work/empty.esl"
sign-efi-sig-list -t '2026-01-02 03:04:06' -k signer.key -c signer.crt PK "$work/empty.esl" PK-delete.auth
