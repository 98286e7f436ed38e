package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// maxPage limits what Page returns at once.
	maxPage = 1000
	// inList is how many values a query compares a column with.
	inList = 128
	// maxTerms limits the parts of a compound SELECT: SQLite takes 500.
	maxTerms = 400
)

// Query selects certificates. Its zero value selects all of them, in the order in
// which they were recorded. Each kind of query is a walk along one index, so that
// a page costs the same wherever it is; but with NamePrefix, the other fields only
// filter what the prefix selects, and with dates, States does.
type Query struct {
	Profile     string  // "": all
	Issuer      string  // name of the authority; "": all
	IssuerKeyID []byte  // key identifier of the key that signed; nil: all
	States      []State // of Issued, Revoked and Held; nil: all of these
	NamePrefix  string  // then the order is that of the names

	// NotAfter from which and before which the validity ends; zero: no limit. With
	// one of them the order is that of the ends.
	ExpiresFrom, ExpiresBefore time.Time

	Newest bool // turns the order round
}

// Cursor is a place between two certificates of a query. "" is before the first.
type Cursor string

// Page returns the next certificates of a query behind a place, at most n and at
// most 1000 of them, and the place behind those: "" if there are no more. A
// certificate that is recorded meanwhile turns up in its place of the order.
func (db *DB) Page(ctx context.Context, q Query, after Cursor, n int) ([]Record, Cursor, error) {
	records, next, err := db.page(ctx, q, after, max(1, min(n, maxPage)))
	if err != nil {
		return nil, "", fmt.Errorf("listing certificates: %w", err)
	}
	return records, next, nil
}

func (db *DB) page(ctx context.Context, q Query, after Cursor, n int) (list []Record, next Cursor, err error) {
	if err := q.check(); err != nil {
		return nil, "", err
	}
	place, err := q.parse(after)
	if err != nil {
		return nil, "", err
	}
	err = db.read(ctx, func(tx *sql.Tx) error {
		var classes []int64
		if q.Profile != "" || q.Issuer != "" || q.IssuerKeyID != nil || q.byDate() || q.States != nil {
			if classes, err = classIDs(ctx, tx, q); err != nil || len(classes) == 0 {
				return err
			}
		}
		var where string
		var args []any
		switch {
		case q.NamePrefix != "":
			where, args = q.byName(classes, place, n)
		case q.byDate():
			where, args = q.byDates(classes, place, n)
		default:
			where, args = q.byEntry(classes, place, n)
		}
		list, err = records(ctx, tx, where, args...)
		return err
	})
	if err != nil || len(list) < n {
		return list, "", err
	}
	return list, q.cursor(list[n-1]), nil
}

func (q Query) byDate() bool { return !q.ExpiresFrom.IsZero() || !q.ExpiresBefore.IsZero() }

func (q Query) check() error {
	for _, s := range q.States {
		if s < Issued || s > Held {
			return fmt.Errorf("state %v has no pages: see Pending", s)
		}
	}
	if q.NamePrefix != "" && q.byDate() {
		return errors.New("a query by name has no dates")
	}
	if !utf8.ValidString(q.NamePrefix) {
		return fmt.Errorf("name prefix %q is not UTF-8", q.NamePrefix)
	}
	return nil
}

// place is a parsed cursor: the certificate that it stands behind.
type place struct {
	name  string
	date  int64
	entry int64
	any   bool // there is one
}

// cursor is the place behind a record. It is text without spaces.
func (q Query) cursor(r Record) Cursor {
	switch {
	case q.NamePrefix != "":
		return Cursor(fmt.Sprintf("n%x.%d", r.Name, r.Entry))
	case q.byDate():
		return Cursor(fmt.Sprintf("d%d.%d", r.NotAfter.Unix(), r.Entry))
	default:
		return Cursor(fmt.Sprintf("e%d", r.Entry))
	}
}

// Behind returns the place behind a certificate that the query has selected.
func (q Query) Behind(r Record) Cursor { return q.cursor(r) }

// parse reads what cursor wrote for such a query.
func (q Query) parse(c Cursor) (p place, err error) {
	if c == "" {
		return place{}, nil
	}
	p.any = true
	kind, rest := c[:1], string(c[1:])
	head, tail, _ := strings.Cut(rest, ".")
	switch {
	case kind == "n" && q.NamePrefix != "":
		var name []byte
		name, err = hex.DecodeString(head)
		p.name = string(name)
	case kind == "d" && q.byDate():
		p.date, err = strconv.ParseInt(head, 10, 64)
	case kind == "e" && q.NamePrefix == "" && !q.byDate():
		tail = rest
	default:
		err = errors.New("of another query")
	}
	if err == nil {
		p.entry, err = strconv.ParseInt(tail, 10, 64)
	}
	if err == nil && q.cursor(Record{Name: p.name, NotAfter: utc(p.date), Entry: p.entry}) != c {
		err = errors.New("not in canonical form")
	}
	if err != nil || !utf8.ValidString(p.name) {
		return place{}, fmt.Errorf("cursor %.300q is none of this query: %v", string(c), err)
	}
	return p, nil
}

// direction returns the comparison that leads on, and the word for ORDER BY.
func (q Query) direction() (compare, order string) {
	if q.Newest {
		return "<", " DESC"
	}
	return ">", ""
}

// byEntry selects in the order of the ledger.
func (q Query) byEntry(classes []int64, p place, n int) (string, []any) {
	compare, order := q.direction()
	if !p.any {
		p.entry = -1
		if q.Newest {
			p.entry = 1<<63 - 1
		}
	}
	states := q.states()
	if len(classes) == 0 || len(classes)*len(states) > maxTerms {
		where := "WHERE c.entry " + compare + " $1"
		if len(classes) > 0 {
			where += " AND c.class IN (" + ints(classes) + ") AND c.state IN (" + ints(states) + ")"
		}
		return fmt.Sprintf("%s ORDER BY c.entry%s LIMIT %d", where, order, n), []any{p.entry}
	}
	var terms []string
	for _, class := range classes {
		for _, state := range states {
			terms = append(terms, fmt.Sprintf("SELECT entry FROM certificate WHERE class = %d AND state = %d AND entry %s $1 ORDER BY entry%s LIMIT %d", class, state, compare, order, n))
		}
	}
	return fmt.Sprintf("WHERE c.entry IN (%s) ORDER BY c.entry%s", firstOf(terms, "entry"+order, n), order), []any{p.entry}
}

// byDates selects in the order in which the validities end.
func (q Query) byDates(classes []int64, p place, n int) (string, []any) {
	compare, order := q.direction()
	from, before := int64(-1<<62), int64(1<<62)
	if !q.ExpiresFrom.IsZero() {
		from = q.ExpiresFrom.Unix()
	}
	if !q.ExpiresBefore.IsZero() {
		before = q.ExpiresBefore.Unix()
	}
	limit := ""
	args := []any{from, before}
	if p.any {
		limit = " AND (not_after, entry) " + compare + " ($3, $4)"
		args = append(args, p.date, p.entry)
		if q.Newest {
			args[1] = min(before, p.date+1)
		} else {
			args[0] = max(from, p.date)
		}
	}
	condition := "not_after >= $1 AND not_after < $2" + limit
	if len(q.States) > 0 {
		condition += " AND state IN (" + ints(q.states()) + ")"
	}
	by := "not_after" + order + ", entry" + order
	outer := "c.not_after" + order + ", c.entry" + order
	if len(classes) > maxTerms {
		return fmt.Sprintf("WHERE c.entry IN (SELECT entry FROM certificate WHERE class IN (%s) AND %s ORDER BY %s LIMIT %d) ORDER BY %s", ints(classes), condition, by, n, outer), args
	}
	var terms []string
	for _, class := range classes {
		terms = append(terms, fmt.Sprintf("SELECT not_after, entry FROM certificate WHERE class = %d AND %s ORDER BY %s LIMIT %d", class, condition, by, n))
	}
	return fmt.Sprintf("WHERE c.entry IN (%s) ORDER BY %s", firstOf(terms, by, n), outer), args
}

// byName selects names with a prefix, in their order.
func (q Query) byName(classes []int64, p place, n int) (string, []any) {
	compare, order := q.direction()
	where := "WHERE c.name >= $1"
	args := []any{q.NamePrefix}
	if end := behindPrefix(q.NamePrefix); end != "" {
		args = append(args, end)
		where += fmt.Sprintf(" AND c.name < $%d", len(args))
	}
	if p.any {
		args = append(args, p.name, p.entry)
		where += fmt.Sprintf(" AND (c.name, c.entry) %s ($%d, $%d)", compare, len(args)-1, len(args))
	}
	if len(classes) > 0 {
		where += " AND c.class IN (" + ints(classes) + ")"
	}
	if len(q.States) > 0 {
		where += " AND c.state IN (" + ints(q.states()) + ")"
	}
	return fmt.Sprintf("%s ORDER BY c.name%s, c.entry%s LIMIT %d", where, order, order, n), args
}

// behindPrefix is the first text behind all with the prefix, "" if there is none.
func behindPrefix(prefix string) string {
	runes := []rune(prefix)
	for i := len(runes) - 1; i >= 0; i-- {
		next := runes[i] + 1
		if next == 0xd800 { // the surrogates are no characters
			next = 0xe000
		}
		if next <= utf8.MaxRune {
			return string(append(runes[:i:i], next))
		}
	}
	return ""
}

// states are the states to look for.
func (q Query) states() []State {
	if len(q.States) == 0 {
		return []State{Issued, Revoked, Held}
	}
	states := slices.Clone(q.States)
	slices.Sort(states)
	return slices.Compact(states)
}

// classIDs returns the classes that a query asks for.
func classIDs(ctx context.Context, q querier, query Query) ([]int64, error) {
	rows, err := q.QueryContext(ctx, "SELECT id, profile, issuer, issuer_key FROM class ORDER BY id")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []int64
	for rows.Next() {
		var id int64
		var profile, issuer string
		var key []byte
		if err := rows.Scan(&id, &profile, &issuer, &key); err != nil {
			return nil, err
		}
		if query.Profile != "" && query.Profile != profile || query.Issuer != "" && query.Issuer != issuer ||
			query.IssuerKeyID != nil && string(query.IssuerKeyID) != string(key) {
			continue
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// firstOf selects the entries of the first n rows of several selects.
func firstOf(terms []string, order string, n int) string {
	for i, term := range terms {
		terms[i] = fmt.Sprintf("SELECT * FROM (%s) t%d", term, i)
	}
	return fmt.Sprintf("SELECT entry FROM (%s) t ORDER BY %s LIMIT %d", strings.Join(terms, " UNION ALL "), order, n)
}

// ints writes numbers as a list of SQL.
func ints[T ~int | ~int64](list []T) string {
	text := make([]string, len(list))
	for i, n := range list {
		text[i] = strconv.FormatInt(int64(n), 10)
	}
	return strings.Join(text, ", ")
}

// placeholders is a list of n parameters of SQL.
func placeholders(n int) string {
	text := make([]string, n)
	for i := range text {
		text[i] = "$" + strconv.Itoa(i+1)
	}
	return strings.Join(text, ", ")
}

// anys is a list of arguments.
func anys[T any](list []T) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = v
	}
	return out
}
