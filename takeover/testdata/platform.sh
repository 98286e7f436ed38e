# A PKI in the shape of what the platform's scripts make, with what they do wrong;
# RSA-2048 for speed. The tests run it, with the passphrase in PASS.
subj() { echo "/C=DE/O=OSS Release/OU=Development/CN=GyroidOS $1"; }
key() { # NAME ALGORITHM [PASS]
	openssl genpkey -quiet -algorithm "$2" -pkeyopt rsa_keygen_bits:2048 -out "$1.plain"
	if [ -n "${3-}" ]; then openssl pkcs8 -topk8 -v2 des3 -in "$1.plain" -passout env:PASS -out "$1.key"; else cp "$1.plain" "$1.key"; chmod 644 "$1.key"; fi
}
root() { # NAME CN PASS URL
	key "$1" RSA "$3"
	openssl req -x509 -new -key "$1.plain" -subj "$(subj "$2")" -days 3650 -addext basicConstraints=critical,CA:true \
		-addext keyUsage=critical,keyCertSign,cRLSign -addext "authorityInfoAccess=caIssuers;URI:http://localhost/$4" -out "$1.cert"
}
issue() { # NAME CN ALGORITHM PASS ISSUER DAYS EXTENSIONS
	key "$1" "$3" "$4"
	openssl req -new -key "$1.plain" -subj "$(subj "$2")" -out "$1.csr"
	printf 'subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid,issuer:always\nauthorityInfoAccess=OCSP;URI:http://localhost/dummy-ocsp\n%b' "$7" > ext
	openssl x509 -req -in "$1.csr" -CA "$5.leaf" -CAkey "$5.plain" -days "$6" -set_serial "0x$(openssl rand -hex 8)" -extfile ext ${8-} -out "$1.leaf" 2>/dev/null
	cat "$1.leaf" "$5.cert" > "$1.cert"
}
root ssig_rootca 'Software Signing Root CA' '' ssig-dummy.cer
root gen_rootca 'General Root CA' yes dummy.cer
cp ssig_rootca.cert ssig_rootca.leaf
cp gen_rootca.cert gen_rootca.leaf
ca='basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\n'
customer='basicConstraints=critical,CA:true\nkeyUsage=digitalSignature,keyCertSign,cRLSign\n'
leaf='basicConstraints=CA:false\nkeyUsage=critical,digitalSignature,nonRepudiation,keyEncipherment\n'
issue ssig_subca 'Software Signing Sub CA' RSA '' ssig_rootca 2190 "$ca"
issue ssig 'Software Signing Certificate' RSA '' ssig_subca 1095 "$leaf"
issue ssig_subca_cml 'CML Signing Sub CA' RSA-PSS '' ssig_rootca 2190 "$ca"
issue ssig_cml 'CML Signing Certificate' RSA-PSS '' ssig_subca_cml 1095 "$leaf"
for n in device user backend; do issue "${n}_subca" "$n Sub CA" RSA-PSS yes gen_rootca 2190 "$customer"; done
issue backend 'Backend Certificate' RSA-PSS yes backend_subca 1095 "${leaf}extendedKeyUsage=serverAuth\n" '-sigopt rsa_pss_saltlen:222'
issue ocsp_server 'OCSP Server Certificate' RSA-PSS yes backend_subca 1095 "${leaf}extendedKeyUsage=serverAuth\n"
mkdir certs
cat ssig_subca.plain ssig_subca.leaf > certs/signing_key.pem
openssl x509 -in ssig_subca.leaf -outform DER -out certs/signing_key.x509
root PK PK '' pk
mv PK.cert PK.crt
rm -f ./*.plain ./*.leaf ./*.csr ext
