package shard

import "fmt"

// Check proves the structure consistent: in each shard a list in strict order
// without duplicates, links matching both ways, every record in the shard and
// under the bucket of its key's hash, the counter exact, the index within its
// bounds. Nobody may write meanwhile.
func (t *Table) Check() error {
	for i := range t.shards {
		if err := t.checkShard(i); err != nil {
			return fmt.Errorf("shard %d of %d: %w", i, len(t.shards), err)
		}
	}
	return nil
}

func (t *Table) checkShard(i int) error {
	s := t.enter(i)
	defer s.leave()
	x := s.index.Load()
	buckets := int64(len(x.buckets))
	if buckets != 1<<(64-x.shift) || x.lead != t.lead {
		return fmt.Errorf("an index of %d buckets is read with lead %d, shift %d", buckets, x.lead, x.shift)
	}
	n, err := t.checkList(s, x, i)
	if err != nil {
		return err
	}
	if n != s.n.Load() {
		return fmt.Errorf("%d users in the list, the counter says %d", n, s.n.Load())
	}
	if n > buckets || n < buckets/4 && buckets > 1<<minBucketBits {
		return fmt.Errorf("%d users in %d buckets", n, buckets)
	}
	return nil
}

// checkList walks the list bucket by bucket and returns its length.
func (t *Table) checkList(s *shard, x *index, shard int) (n int64, err error) {
	var prev *record
	for b := range x.buckets {
		r := x.buckets[b].Load()
		if r == nil {
			continue
		}
		if prev != nil && prev.next.Load() != r {
			return 0, fmt.Errorf("%v is followed by another than %v, the first of bucket %d", prev.key(), r.key(), b)
		}
		if x.within(r, b) == nil {
			return 0, fmt.Errorf("%v is the first of bucket %d, belongs into %d", r.key(), b, x.bucket(r.hash))
		}
		for ; x.within(r, b) != nil; r = r.next.Load() {
			if err := t.checkRecord(prev, r, shard); err != nil {
				return 0, err
			}
			prev = r
			n++
		}
	}
	if prev != nil && prev.next.Load() != nil {
		return 0, fmt.Errorf("%v is in no bucket", prev.next.Load().key())
	}
	if s.last != prev {
		return 0, fmt.Errorf("the list does not end with the record that the writer takes for its last")
	}
	return n, nil
}

// checkRecord checks r, which follows prev.
func (t *Table) checkRecord(prev, r *record, shard int) error {
	k := r.key()
	if h := t.hash(k.App, k.UserID); r.hash != h || t.ShardOf(h) != shard {
		return fmt.Errorf("%v stands under hash %#x, has %#x", k, r.hash, h)
	}
	if prev != nil && prev.compare(r.hash, r.app, k.UserID) >= 0 {
		return fmt.Errorf("%v follows %v", k, prev.key())
	}
	if r.prev != prev {
		return fmt.Errorf("%v does not point back to the record before it", k)
	}
	return nil
}
