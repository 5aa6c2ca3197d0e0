// SPDX-License-Identifier: Apache-2.0
// What raft:// reads from its disk and from its peers: segments, manifests, metadata, messages and
// entries. Nothing that is read is believed; what is a whole message encodes to the same again.
#include "fuzz.h"
#include "store/raft/entry.h"
#include "store/raft/log_int.h"
#include "store/raft/wire.h"
#include <string.h>

struct seen {
    uint64_t next;
    size_t bytes;
};

static int on_entry(void *arg, const struct kl_raft_entry *e)
{
    struct seen *s = arg;
    FUZZ_CHECK(!s->next || e->index == s->next, "entry %llu", (unsigned long long)e->index);
    s->next = e->index + 1;
    const unsigned char *p = e->p;
    for (size_t i = 0; i < e->n; i++)
        s->bytes += p[i];
    return 0;
}

static void read_disk(const uint8_t *p, size_t n)
{
    struct kl_error err;
    struct kl_raft_segment s;
    struct seen seen = {0, 0};
    struct kl_raft_manifest m;
    struct kl_raft_meta meta;
    uint64_t counter;
    int r = kl_raft_segment_parse(p, n, 1, &s, on_entry, &seen, &err);
    FUZZ_CHECK(r == 0 || r == KL_ECORRUPT || r == KL_EUNSUPPORTED || r == KL_EEOF, "%d", r);
    FUZZ_CHECK(r || (s.end >= KL_RAFT_HEAD_BYTES && s.end <= s.size), "end %lld", (long long)s.end);
    if (!kl_raft_manifest_parse(p, n, &m, &err)) {
        raft_free(m.conf);
        raft_free(m.data);
    }
    kl_raft_meta_parse(p, n, &meta, &counter);
}

static void read_message(const uint8_t *p, size_t n)
{
    struct raft_message m, again;
    if (kl_raft_decode((struct kl_str){(const char *)p, n}, &m))
        return;
    struct kl_bytes *b = kl_raft_encode(&m);
    FUZZ_CHECK(b, "out of memory");
    int r = kl_raft_decode(kl_bytes_str(b), &again);
    FUZZ_CHECK(r == 0 && again.type == m.type, "again %d", r);
    if (m.type == RAFT_IO_APPEND_ENTRIES) {
        FUZZ_CHECK(again.append_entries.n_entries == m.append_entries.n_entries, "entries");
        FUZZ_CHECK(m.append_entries.leader_commit <=
                       m.append_entries.prev_log_index + m.append_entries.n_entries,
                   "commits more than was compared");
    }
    kl_raft_message_fini(&again);
    kl_raft_message_fini(&m);
    kl_bytes_unref(b);
}

static void read_body(struct kl_str body)
{
    struct kl_raft_batch_head h;
    struct kl_raft_peer_entry peer;
    struct kl_batch *b;
    kl_rev *prev;
    kl_raft_head_decode(body, &h);
    kl_raft_peer_decode(body, &peer);
    if (kl_raft_batch_decode(body, &b, &prev))
        return;
    for (size_t i = 0; i < b->nrows; i++) {
        FUZZ_CHECK(b->rows[i].kv->id == b->base_rev + (kl_rev)i + 1, "row %zu", i);
        FUZZ_CHECK(prev[i] < b->rows[i].kv->id, "row %zu replaces %lld", i, (long long)prev[i]);
    }
    kl_batch_free(b);
    free(prev);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_raft_part part;
    struct raft_configuration conf;
    read_disk(data, size);
    read_message(data, size);
    if (!kl_raft_part_decode(data, size, &part))
        read_body(part.body);
    read_body((struct kl_str){(const char *)data, size});
    if (!kl_raft_conf_decode(data, size, &conf))
        raft_configuration_close(&conf);
    return 0;
}
