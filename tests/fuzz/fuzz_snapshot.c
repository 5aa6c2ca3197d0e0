// SPDX-License-Identifier: Apache-2.0
// Records of a copy: what is decoded is encoded to the same, however the input is cut. With a first
// byte 'S' the rest is what a snapshot file holds between its magic and its digest, which is right:
// the reader ends in an error or in END, with every row in it.
#include "fuzz.h"
#include "store/transfer/snapshot.h"
#include <openssl/sha.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void check_row(const struct kl_record_row *r)
{
    FUZZ_CHECK(r->id > 0 && r->mod_rev >= r->id && r->key.n, "row %lld", (long long)r->id);
    FUZZ_CHECK(r->deleted || (r->version > 0 && r->create_rev > 0), "row %lld", (long long)r->id);
}

static void check_records(struct kl_str in)
{
    struct kl_record r, again;
    struct kl_buf b;
    kl_buf_init(&b, 32 << 20);
    while (in.n && !kl_record_decode(&in, &r, NULL)) {
        kl_buf_clear(&b);
        FUZZ_CHECK(!kl_record_encode(&b, &r), "kind %c", r.kind);
        struct kl_str one = kl_buf_str(&b), cut = {b.p, b.n - 1};
        FUZZ_CHECK(kl_record_decode(&cut, &again, NULL) == KL_EAGAIN, "kind %c", r.kind);
        FUZZ_CHECK(!kl_record_decode(&one, &again, NULL) && !one.n, "kind %c", r.kind);
        FUZZ_CHECK(again.kind == r.kind, "kind %c", r.kind);
        if (r.kind == KL_RECORD_ROW) {
            check_row(&r.row);
            FUZZ_CHECK(kl_str_eq(r.row.key, again.row.key) &&
                           kl_str_eq(r.row.value, again.row.value) &&
                           r.row.lease == again.row.lease && r.row.prev_id == again.row.prev_id,
                       "row %lld", (long long)r.row.id);
        }
    }
    kl_buf_fini(&b);
}

static void read_snapshot(const char *path)
{
    struct kl_source *src;
    struct kl_record r;
    int64_t rows = 0;
    if (kl_snapshot_read(path, &src, NULL))
        return;
    int code;
    while (!(code = src->next(src, &r, NULL))) {
        rows += r.kind == KL_RECORD_ROW;
        if (r.kind == KL_RECORD_ROW)
            check_row(&r.row);
        if (r.kind == KL_RECORD_END)
            FUZZ_CHECK(r.end.rows == rows, "%lld rows", (long long)rows);
    }
    src->close(src);
}

static void check_snapshot(const uint8_t *data, size_t size)
{
    static const char magic[] = "KLSNAP1\n";
    unsigned char sha[SHA256_DIGEST_LENGTH];
    char path[64];
    size_t n = sizeof(magic) - 1 + size;
    unsigned char *all = malloc(n);
    int fd = memfd_create("snapshot", MFD_CLOEXEC);
    FUZZ_CHECK(all && fd >= 0, "memfd");
    memcpy(all, magic, sizeof(magic) - 1);
    memcpy(all + sizeof(magic) - 1, data, size);
    SHA256(all, n, sha);
    FUZZ_CHECK(write(fd, all, n) == (ssize_t)n && write(fd, sha, sizeof(sha)) == sizeof(sha),
               "memfd");
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    read_snapshot(path);
    close(fd);
    free(all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size && data[0] == 'S')
        check_snapshot(data + 1, size - 1);
    else
        check_records((struct kl_str){(const char *)data, size});
    return 0;
}
