# A directory of "openssl ca" with 20 certificates, 3 of them revoked. The tests run it.
mkdir newcerts private certs
cat > openssl.cnf <<'CONF'
[ca]
default_ca = here
[here]
dir = .
database = $dir/index.txt
new_certs_dir = $dir/newcerts
certificate = $dir/cacert.pem
private_key = $dir/private/cakey.pem
serial = $dir/serial
crlnumber = $dir/crlnumber
default_md = sha256
default_days = 90
default_crl_days = 7
policy = any
x509_extensions = usr
unique_subject = no
[any]
commonName = supplied
[usr]
basicConstraints = CA:FALSE
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
CONF
: > index.txt
echo 1000 > serial
echo 05 > crlnumber
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout private/cakey.pem -out cacert.pem -days 999 \
	-subj '/C=DE/O=Old/CN=Old Root' -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
chmod 600 private/cakey.pem
openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out one.tmp
for n in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do
	openssl req -new -key one.tmp -subj "/CN=device $n" -out one.csr
	openssl ca -config openssl.cnf -batch -notext -in one.csr -out "certs/device$n.pem" 2>/dev/null
done
openssl ca -config openssl.cnf -revoke newcerts/1002.pem 2>/dev/null
openssl ca -config openssl.cnf -revoke newcerts/1005.pem -crl_reason keyCompromise 2>/dev/null
openssl ca -config openssl.cnf -revoke newcerts/1009.pem -crl_hold 1.2.840.10040.2.2 2>/dev/null
for n in 1 2 3; do openssl ca -config openssl.cnf -gencrl -out ca.crl 2>/dev/null; done
rm one.tmp one.csr
