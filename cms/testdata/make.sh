#!/bin/sh
# Makes the files in this directory anew: keys, certificates and messages of
# other tools. Needs the tools that README.md names.
set -eu
cd "$(dirname "$0")"
rm -f ./*.key ./*.crt ./*.p7 content

genkey() { # name, arguments of genpkey
	name=$1; shift
	openssl genpkey "$@" -out "$name.key"
	openssl req -x509 -new -key "$name.key" -subj "/C=DE/O=Test/CN=$name" -days 36500 \
		-addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature -out "$name.crt"
}
genkey rsa -algorithm RSA -pkeyopt rsa_keygen_bits:2048
genkey pss -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048
genkey ec -algorithm EC -pkeyopt ec_paramgen_curve:P-256
genkey ed25519 -algorithm ED25519
printf 'name: "debos"\nversion: 1\n' >content

cms() { # output, signer, further arguments
	out=$1 signer=$2; shift 2
	openssl cms -sign -binary -in content -outform DER -out "$out.p7" -signer "$signer.crt" -inkey "$signer.key" "$@"
}
cms cms-attributes rsa -md sha256
cms cms-no-attributes rsa -md sha256 -noattr
cms cms-no-certificates rsa -md sha512 -nocerts
cms cms-key-identifier rsa -md sha384 -keyid
cms cms-embedded rsa -md sha256 -nodetach
cms cms-certificates rsa -md sha256 -certfile ec.crt
cms cms-pss pss -md sha512 -keyopt rsa_padding_mode:pss -keyopt rsa_pss_saltlen:64
cms cms-pss-rsa rsa -md sha512 -keyopt rsa_padding_mode:pss -keyopt rsa_pss_saltlen:64
cms cms-ec ec -md sha256
openssl cms -sign -binary -in content -outform DER -out cms-two-signers.p7 -md sha256 \
	-signer rsa.crt -inkey rsa.key -signer ec.crt -inkey ec.key
openssl smime -sign -binary -in content -outform DER -out smime.p7 -md sha256 -signer rsa.crt -inkey rsa.key
cms ber rsa -md sha256 -nodetach -stream

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp content "$work/content"
/usr/lib/linux-kbuild-6.1/scripts/sign-file -d sha256 rsa.key rsa.crt "$work/content"
mv "$work/content.p7s" module.p7

cert-to-efi-sig-list -g 11111111-2222-3333-4444-555566667777 rsa.crt "$work/esl" >/dev/null
sign-efi-sig-list -t '2026-01-02 03:04:05' -k rsa.key -c rsa.crt PK "$work/esl" "$work/auth" >/dev/null
size=$(stat -c %s "$work/esl")
tail -c +41 "$work/auth" | head -c -"$size" >auth.p7

cat >"$work/a.c" <<'C'
#include <efi.h>
EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *table) { return EFI_SUCCESS; }
C
gcc -I/usr/include/efi -I/usr/include/efi/x86_64 -fpic -ffreestanding -fno-stack-protector -fshort-wchar \
	-mno-red-zone -maccumulate-outgoing-args -c "$work/a.c" -o "$work/a.o"
ld -nostdlib -znocombreloc -T /usr/lib/elf_x86_64_efi.lds -shared -Bsymbolic -L/usr/lib \
	/usr/lib/crt0-efi-x86_64.o "$work/a.o" -o "$work/a.so" -lefi -lgnuefi 2>/dev/null
objcopy -j .text -j .sdata -j .data -j .dynamic -j .dynsym -j .rel -j .rela -j .reloc -S \
	--target efi-app-x86_64 "$work/a.so" "$work/a.efi"
sbsign --detached --key rsa.key --cert rsa.crt --output sbsign.p7 "$work/a.efi" >/dev/null 2>&1
osslsigncode sign -h sha256 -n test -i https://example.org/ -key rsa.key -certs rsa.crt -in "$work/a.efi" -out "$work/b.efi" >/dev/null
osslsigncode extract-signature -in "$work/b.efi" -out osslsigncode.p7 >/dev/null
