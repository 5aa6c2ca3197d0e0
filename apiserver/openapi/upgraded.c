// SPDX-License-Identifier: Apache-2.0
// A version 3 document that is kept packed (apiserver/aggregate/upgrade.h), written piece by piece.
#include "apiserver/openapi/openapi_int.h"
#include "object/json.h"
#include <stdlib.h>

enum { PIECE_BYTES = 32 << 10, SCRATCH_MAX = 64 << 20 };

struct kl_oa_upgraded {
    struct kl_upgraded *doc;
    bool protobuf;
    int part;  // KL_UPGRADED_NPARTS: the end is to be written; one more: it was
    bool some; // members of the part were written
    bool components;
    struct kl_packed_reader *reader;
    struct kl_buf text;
};

static const char *const names[] = {
    [KL_UPGRADED_PATHS] = "paths",
    [KL_UPGRADED_SCHEMAS] = "schemas",
    [KL_UPGRADED_SECURITY] = "securitySchemes",
    [KL_UPGRADED_RESPONSES] = "responses",
};

struct kl_oa_upgraded *kl_oa_upgraded_new(struct kl_upgraded *u, bool protobuf)
{
    struct kl_oa_upgraded *x = calloc(1, sizeof *x);
    if (!x) {
        kl_upgraded_unref(u);
        return NULL;
    }
    x->doc = u;
    x->protobuf = protobuf;
    x->part = -1;
    kl_buf_init(&x->text, SCRATCH_MAX);
    return x;
}

void kl_oa_upgraded_free(struct kl_oa_upgraded *x)
{
    if (!x)
        return;
    kl_packed_reader_free(x->reader);
    kl_upgraded_unref(x->doc);
    kl_buf_fini(&x->text);
    free(x);
}

static void put_member(struct kl_buf *b, struct kl_str name, struct kl_str value)
{
    kl_json_write_string(b, name);
    kl_buf_putc(b, ':');
    kl_buf_puts(b, value);
}

// Each member as a document of its own: readers of messages put them together.
static void put_message(struct kl_oa_upgraded *x, struct kl_buf *out, struct kl_str name,
                        struct kl_str value)
{
    bool within = x->part != KL_UPGRADED_PATHS;
    kl_buf_clear(&x->text);
    kl_buf_printf(&x->text, "%s{\"%s\":{", within ? "{\"components\":" : "", names[x->part]);
    put_member(&x->text, name, value);
    kl_buf_puts(&x->text, within ? KL_STR("}}}") : KL_STR("}}"));
    int rc = x->text.err ? x->text.err : kl_oa_proto(out, KL_OA_MSG_V3, kl_buf_str(&x->text));
    out->err = out->err ? out->err : rc;
}

static void put_head(struct kl_oa_upgraded *x, struct kl_buf *out)
{
    struct kl_str head = kl_bytes_str(x->doc->head);
    kl_buf_clear(&x->text);
    kl_buf_printf(&x->text, "{%.*s", KL_PRI(head));
    if (!x->protobuf) {
        kl_buf_puts(out, kl_buf_str(&x->text));
        return;
    }
    kl_buf_puts(&x->text, KL_STR("}"));
    int rc = x->text.err ? x->text.err : kl_oa_proto(out, KL_OA_MSG_V3, kl_buf_str(&x->text));
    out->err = out->err ? out->err : rc;
}

// What stands before a part and where all of them end.
static void put_between(struct kl_oa_upgraded *x, struct kl_buf *out)
{
    bool is_there = x->part < KL_UPGRADED_NPARTS && x->doc->packed[x->part];
    if (x->protobuf)
        return;
    if (x->part == KL_UPGRADED_PATHS) {
        kl_buf_puts(out, is_there ? KL_STR(",\"paths\":{") : KL_STR(""));
        return;
    }
    if (x->part == KL_UPGRADED_SCHEMAS)
        kl_buf_puts(out, KL_STR(",\"components\":{"));
    if (is_there) {
        kl_buf_printf(out, "%s\"%s\":{", x->components ? "," : "", names[x->part]);
        x->components = true;
    }
    if (x->part == KL_UPGRADED_NPARTS)
        kl_buf_puts(out, KL_STR("}}"));
}

static int next_part(struct kl_oa_upgraded *x, struct kl_buf *out)
{
    if (x->reader && !x->protobuf)
        kl_buf_putc(out, '}');
    kl_packed_reader_free(x->reader);
    x->reader = NULL;
    x->some = false;
    if (x->part < 0)
        put_head(x, out);
    x->part++;
    put_between(x, out);
    if (x->part < KL_UPGRADED_NPARTS && x->doc->packed[x->part] &&
        !(x->reader = kl_packed_reader_new(x->doc->packed[x->part])))
        return KL_ENOMEM;
    return 0;
}

int kl_oa_upgraded_next(struct kl_oa_upgraded *x, struct kl_buf *out)
{
    struct kl_str name, value;
    int rc = 0;
    while (out->n < PIECE_BYTES && x->part < KL_UPGRADED_NPARTS && rc >= 0 && !out->err) {
        rc = x->reader ? kl_packed_reader_next(x->reader, &name, &value) : 0;
        if (!rc) {
            rc = next_part(x, out);
        } else if (rc > 0 && x->protobuf) {
            put_message(x, out, name, value);
        } else if (rc > 0) {
            kl_buf_puts(out, x->some ? KL_STR(",") : KL_STR(""));
            x->some = true;
            put_member(out, name, value);
        }
    }
    return rc < 0 ? rc : out->err ? out->err : x->part < KL_UPGRADED_NPARTS;
}
