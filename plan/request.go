package plan

import (
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"path/filepath"

	"tmpki/ca"
	"tmpki/ceremony"
	"tmpki/internal/durable"
	"tmpki/store"
)

// Where bundles are, in the PKI directory and in the store.
const (
	requestsDir    = "requests"
	requestObject  = "ceremony/request"  // its versions are the requests, in the order of their numbers
	responseObject = "ceremony/response" // its versions are the responses that were taken, or given

	pkiSetting  = "pki.id"       // 128 random bits, hexadecimal
	useSetting  = "ceremony.use" // ceremonyUse in the store of the offline machine
	ceremonyUse = "offline"

	requestDetail = "request" // digest of the request, of a response
	digestDetail  = "digest"  // of the bundle's first two lines
)

// readOpenRequest returns the newest request, unless it was answered.
func readOpenRequest(ctx context.Context, db *store.DB) (*OpenRequest, error) {
	o, err := db.Object(ctx, requestObject)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r, err := ceremony.ParseRequest(o.Content)
	if err != nil {
		return nil, fmt.Errorf("the store's %s: %w", requestObject, err)
	}
	answer, err := findResponse(ctx, db, r.Digest())
	if err != nil || answer != nil {
		return nil, err
	}
	return &OpenRequest{Request: r, File: path.Join(requestsDir, r.FileName())}, nil
}

// findResponse returns the response to a request that the store has, or nil.
func findResponse(ctx context.Context, db *store.DB, request ceremony.Digest) (*store.Object, error) {
	return findVersion(ctx, db, responseObject, requestDetail, request.String())
}

// findVersion returns the newest version of an object with this detail, or nil.
func findVersion(ctx context.Context, db *store.DB, name, detail, value string) (*store.Object, error) {
	for o, err := range db.Versions(ctx, name) {
		if err != nil {
			return nil, err
		}
		if o.Detail[detail] == value {
			return &o, nil
		}
	}
	return nil, nil
}

// request writes down what is asked of the offline keys, records it, and puts the
// file in its place.
func (r *run) request(ctx context.Context, later []Step) (Step, error) {
	done := Step{Kind: RequestCeremony}
	// 1. One that is on record and still right lacks only its file.
	bundle := r.Have.Request
	if bundle != nil {
		here := *bundle
		here.Here = true
		have := r.Have
		have.Request = &here
		if r.Plan.needsRequest(have, nil, later) || r.madeKeys(later) {
			bundle = nil
		}
	}
	if bundle == nil {
		// 2. A new one.
		q, err := r.composeRequest(ctx, later)
		if err != nil {
			return done, err
		}
		err = r.db.PutObject(ctx, store.Object{
			Name:    requestObject,
			Kind:    "ceremony-request",
			Actor:   r.o.Actor,
			Content: q.Marshal(),
			Detail:  map[string]string{digestDetail: q.Digest().String(), "number": fmt.Sprint(q.Number)},
		})
		if err != nil {
			return done, fmt.Errorf("recording the request: %w", err)
		}
		r.created = nil // the request asks for certificates of new keys
		bundle = &OpenRequest{Request: q, File: path.Join(requestsDir, q.FileName())}
	}
	// 3. The file.
	file := filepath.Join(r.Dir, filepath.FromSlash(bundle.File))
	if err := makeDir(filepath.Dir(file)); err != nil {
		return done, err
	}
	if err := durable.WriteFile(file, bundle.Marshal(), 0o644); err != nil {
		return done, err
	}
	bundle.Here = true
	r.Have.Request = bundle
	r.progress(done)
	return done, nil
}

// madeKeys reports whether this run made a key that waits for its certificate.
func (r *run) madeKeys(later []Step) bool {
	for _, s := range later {
		if s.Kind == IssueCertificate && r.made[s.Entry.KeyOwner().Name] {
			return true
		}
	}
	return false
}

// composeRequest makes the bundle of the steps that wait for a ceremony.
func (r *run) composeRequest(ctx context.Context, later []Step) (*ceremony.Request, error) {
	id, err := pkiID(ctx, r.db, r.o.Actor)
	if err != nil {
		return nil, err
	}
	number, err := lastNumber(ctx, r.db, requestObject)
	if err != nil {
		return nil, err
	}
	text, err := readFile(filepath.Join(r.Dir, FileName), maxFile)
	if err != nil {
		return nil, err
	}
	q := &ceremony.Request{Actor: r.o.Actor, Number: number + 1, PKI: id, Plan: string(text.Content), Program: r.o.program(), Time: r.now}
	known, vendors := map[string]bool{}, map[string]bool{}
	for _, s := range later {
		switch {
		case s.Waits != WaitsCeremony:
		case s.Kind == IssueCertificate:
			item, err := r.certificateItem(s.Entry)
			if err != nil {
				return nil, err
			}
			q.Certificates = append(q.Certificates, item)
		case s.Kind == SignCRL:
			item, err := r.crlItem(ctx, s.Entry)
			if err != nil {
				return nil, err
			}
			q.CRLs = append(q.CRLs, item)
		case s.Kind == SignVariable:
			v := s.Variable
			if err := r.drawOwner(ctx, v); err != nil {
				return nil, err
			}
			item := ceremony.VariableItem{ID: v.ID(), Owner: r.Have.Owners[v.Platform]}
			if last := r.Have.Updates[v.ID()].Last; last != nil {
				item.After = last.Time.UTC()
			}
			q.Variables = append(q.Variables, item)
			for _, e := range v.Certificates {
				if c := r.Have.Certificates[e.Name]; c != nil && !known[e.Name] {
					known[e.Name] = true
					q.Known = append(q.Known, ceremony.Known{Entry: e.Name, Certificate: c.Raw})
				}
			}
			for _, file := range v.Files {
				is := r.Have.Vendors[file]
				if is.Err != nil {
					return nil, is.Err
				}
				if !vendors[file] {
					vendors[file] = true
					q.Vendors = append(q.Vendors, ceremony.Vendor{File: file, Content: is.Certificate.Raw})
				}
			}
		default:
			return nil, fmt.Errorf("no ceremony can %s %s", s.Kind, s.Name())
		}
	}
	if err := q.Seal(); err != nil {
		return nil, err
	}
	return q, r.signRequest(q)
}

// certificateItem asks for one certificate, with a proof that its key is here.
func (r *run) certificateItem(e *Entry) (ceremony.CertificateItem, error) {
	item := ceremony.CertificateItem{Entry: e.Name}
	is := r.Have.Certificates[e.Name]
	if is != nil {
		item.Have = hex.EncodeToString(is.SerialNumber.Bytes())
	}
	owner := e.KeyOwner()
	if owner.AtCeremony {
		return item, nil
	}
	if _, here := r.Have.Keys[owner.Name]; !here && is != nil {
		return item, nil // issued again for the key that is known
	}
	key, err := r.ring.signer(owner)
	if err != nil {
		return item, err
	}
	item.CSR, err = ca.NewRequest(e.Subject, key, owner.Algorithm)
	return item, err
}

// signRequest signs a request with a key that the other machine has certified
// before, if there is one, so that it knows where the request comes from.
func (r *run) signRequest(q *ceremony.Request) error {
	e := r.Plan.requestSigner(r.Have)
	if e == nil {
		return nil
	}
	key, err := r.ring.signer(e)
	if err != nil {
		return fmt.Errorf("signing the request: %w", err)
	}
	return q.Sign(e.Name, key, e.Algorithm)
}

// requestSigner returns the first entry whose key is here and certified by one of
// a ceremony, or nil.
func (p *Plan) requestSigner(have Inventory) *Entry {
	for _, e := range p.Entries {
		if _, here := have.Keys[e.Name]; here && isRequestSigner(e) && have.Certificates[e.Name] != nil {
			return e
		}
	}
	return nil
}

// isRequestSigner reports whether an entry's key can vouch for a request: it is
// online, and its certificate is one that a ceremony made.
func isRequestSigner(e *Entry) bool {
	return e.TwinOf == nil && !e.AtCeremony && e.Signer().AtCeremony
}

// lastNumber returns the number of the newest version of a bundle, 0 if there is
// none.
func lastNumber(ctx context.Context, db *store.DB, name string) (int64, error) {
	o, err := db.Object(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if name == requestObject {
		r, err := ceremony.ParseRequest(o.Content)
		if err != nil {
			return 0, err
		}
		return r.Number, nil
	}
	r, err := ceremony.ParseResponse(o.Content)
	if err != nil {
		return 0, err
	}
	return r.Number, nil
}

// program is the version for the record.
func (o Options) program() string {
	if o.Program == "" {
		return "tmpki"
	}
	return "tmpki " + o.Program
}

// publicKey returns the key that an entry's certificate is about.
func (r *run) publicKey(e *Entry) (crypto.PublicKey, error) {
	if key := r.requested[e.KeyOwner().Name]; key != nil {
		return key, nil // at a ceremony: of the machine that asks
	}
	if c := r.Have.Certificates[e.Name]; c != nil {
		return c.Key, nil // issued again: the key may be far away
	}
	if c := r.Have.Certificates[e.KeyOwner().Name]; c != nil && e.Kind == Cross {
		return c.Key, nil
	}
	signer, err := r.ring.signer(e)
	if err != nil {
		return nil, err
	}
	return signer.Public(), nil
}
