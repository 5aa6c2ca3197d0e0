// SPDX-License-Identifier: Apache-2.0
// JSON patch (RFC 6902) as evanphx/json-patch v4 applies it: negative indexes count from the end,
// replace makes a missing member of an object, text before the first slash of a path is ignored.
#include "object/patch_int.h"
#include "object/gotext_int.h"
#include "object/json_kind.h"
#include <errno.h>
#include <stdlib.h>

enum { MAX_OPERATIONS = 10000, MAX_COPY_BYTES = 3 * 1024 * 1024 };

struct json_patch {
    struct kl_arena *arena;
    struct kl_value doc;
    struct kl_error *err;
    size_t copied_bytes;
    bool no_memory; // met on the way to a place
};

// One operation; absent and null strings have p == NULL.
struct operation {
    struct kl_str op, path, from;
    const struct kl_value *value; // NULL: absent
};

// Where a path leads: a container and the last part, unescaped.
struct place {
    struct kl_value *container;
    struct kl_str key;
};

#define MISSING ": missing value"

__attribute__((format(printf, 2, 3))) static int fail(struct json_patch *p, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    kl_error_vset(p->err, KL_EINVALID, fmt, ap);
    va_end(ap);
    return KL_EINVALID;
}

// ~1 is a slash, ~0 a tilde.
static struct kl_str unescape(struct json_patch *p, struct kl_str part)
{
    if (kl_str_chr(part, '~') < 0)
        return part;
    char *out = kl_arena_alloc(p->arena, part.n);
    size_t n = 0;
    if (!out) {
        p->no_memory = true;
        return (struct kl_str){NULL, 0};
    }
    for (size_t i = 0; i < part.n; i++) {
        char next = i + 1 < part.n ? part.p[i + 1] : 0;
        bool escape = part.p[i] == '~' && (next == '0' || next == '1');
        out[n++] = !escape ? part.p[i] : next == '1' ? '/' : '~';
        i += escape;
    }
    return (struct kl_str){out, n};
}

// strconv.Atoi; on failure the text of its error is left in p->err.
static bool parse_index(struct json_patch *p, struct kl_str s, int64_t *ret)
{
    struct kl_str digits = s;
    if (digits.n > 1 && digits.p[0] == '+' && digits.p[1] != '-')
        digits = kl_str_from(digits, 1);
    if (kl_str_to_i64(digits, ret))
        return true;
    bool number = digits.n > 0;
    for (size_t i = digits.n && digits.p[0] == '-'; i < digits.n; i++)
        number = number && digits.p[i] >= '0' && digits.p[i] <= '9';
    number = number && digits.p[digits.n - 1] != '-';
    struct kl_buf quoted;
    kl_buf_init(&quoted, KL_GO_TEXT_MAX_BYTES);
    kl_go_quote(&quoted, s);
    fail(p, "strconv.Atoi: parsing %.*s: %s", KL_PRI(kl_buf_str(&quoted)),
         number ? "value out of range" : "invalid syntax");
    kl_buf_fini(&quoted);
    return false;
}

// An index of an array with `n` places; negative ones count from the end.
static bool array_index(struct json_patch *p, struct kl_str key, size_t n, size_t *ret)
{
    int64_t i;
    if (!parse_index(p, key, &i))
        return false;
    if (i >= (int64_t)n || i < -(int64_t)n) {
        fail(p, "Unable to access invalid index: %lld: invalid index referenced", (long long)i);
        return false;
    }
    *ret = (size_t)(i < 0 ? i + (int64_t)n : i);
    return true;
}

// Walks to the container that holds the last part of the path, making each level on the way the
// draft's own. False when there is none (or memory ran out, which p->err says then).
static bool find_place(struct json_patch *p, struct kl_str path, struct place *ret)
{
    struct kl_value *at = &p->doc;
    ptrdiff_t slash = kl_str_chr(path, '/');
    if (slash < 0)
        return false;
    path = kl_str_from(path, (size_t)slash + 1);
    while ((slash = kl_str_chr(path, '/')) >= 0) {
        struct kl_str part = unescape(p, (struct kl_str){path.p, (size_t)slash});
        path = kl_str_from(path, (size_t)slash + 1);
        if (!part.p)
            return false;
        size_t i;
        struct kl_value *next = NULL;
        if (at->kind == KL_ARRAY) {
            if (!array_index(p, part, at->n, &i))
                return false;
            next = kl_edit_at(p->arena, at, i);
        } else {
            const struct kl_value *have = kl_map_value(at, part);
            if (!have || (have->kind != KL_MAP && have->kind != KL_ARRAY))
                return false;
            next = kl_edit_map(p->arena, at, part, (enum kl_value_kind)have->kind);
        }
        p->no_memory = p->no_memory || !next;
        if (!next || (next->kind != KL_MAP && next->kind != KL_ARRAY))
            return false;
        at = next;
    }
    *ret = (struct place){at, unescape(p, path)};
    return ret->key.p != NULL;
}

// The value there; *ret is NULL for an absent member of an object. False for a bad index.
static bool get(struct json_patch *p, const struct place *at, const struct kl_value **ret)
{
    size_t i;
    if (at->container->kind == KL_MAP) {
        *ret = kl_map_value(at->container, at->key);
        return true;
    }
    if (!array_index(p, at->key, at->container->n, &i))
        return false;
    *ret = &at->container->items[i];
    return true;
}

static int put(struct json_patch *p, const struct place *at, struct kl_value value)
{
    struct kl_value *array = at->container;
    size_t i = array->n;
    if (array->kind == KL_MAP)
        return kl_map_set_value(p->arena, array, at->key, value) ? kl_patch_no_memory(p->err) : 0;
    if (!kl_str_eq(at->key, KL_STR("-"))) {
        int64_t ignored;
        if (!parse_index(p, at->key, &ignored)) {
            if (p->err)
                kl_error_wrap(p->err, "value was not a proper array index: '%.*s'",
                              KL_PRI(at->key));
            return KL_EINVALID;
        }
        if (!array_index(p, at->key, (size_t)array->n + 1, &i))
            return KL_EINVALID;
    }
    if (kl_append(p->arena, array, value))
        return kl_patch_no_memory(p->err);
    struct kl_value added = array->items[array->n - 1];
    memmove(&array->items[i + 1], &array->items[i], (array->n - 1 - i) * sizeof(added));
    array->items[i] = added;
    return 0;
}

static int take_out(struct json_patch *p, const struct place *at)
{
    size_t i;
    if (at->container->kind == KL_MAP) {
        if (!kl_map_value(at->container, at->key))
            return fail(p, "Unable to remove nonexistent key: %.*s" MISSING, KL_PRI(at->key));
        kl_map_unset(p->arena, at->container, at->key);
        return 0;
    }
    if (!array_index(p, at->key, at->container->n, &i))
        return KL_EINVALID;
    kl_remove_at(p->arena, at->container, i);
    return 0;
}

static int wrap(struct json_patch *p, int r, const char *context, struct kl_str path)
{
    if (r != KL_ENOMEM && p->err)
        kl_error_wrap(p->err, "%s '%.*s'", context, KL_PRI(path));
    return r;
}

static struct kl_value value_of(const struct operation *op)
{
    return op->value ? *op->value : kl_null();
}

static int apply_add(struct json_patch *p, const struct operation *op)
{
    struct place at;
    if (!op->path.p)
        return fail(p, "add operation failed to decode path" MISSING);
    if (!find_place(p, op->path, &at))
        return fail(p, "add operation does not apply: doc is missing path: \"%.*s\"" MISSING,
                    KL_PRI(op->path));
    int r = put(p, &at, value_of(op));
    return r ? wrap(p, r, "error in add for path:", op->path) : 0;
}

static int apply_remove(struct json_patch *p, const struct operation *op)
{
    struct place at;
    if (!op->path.p)
        return fail(p, "remove operation failed to decode path" MISSING);
    if (!find_place(p, op->path, &at))
        return fail(p, "remove operation does not apply: doc is missing path: \"%.*s\"" MISSING,
                    KL_PRI(op->path));
    int r = take_out(p, &at);
    return r ? wrap(p, r, "error in remove for path:", op->path) : 0;
}

static int apply_replace(struct json_patch *p, const struct operation *op)
{
    struct place at;
    const struct kl_value *ignored;
    size_t i = 0;
    if (!op->path.p)
        return fail(
            p, "replace operation failed to decode path: operation missing path field" MISSING);
    if (op->path.n == 0) {
        if (!kl_is(op->value, KL_MAP) && !kl_is(op->value, KL_ARRAY))
            return fail(p, "replace operation value must be object or array: %%!w(<nil>)");
        p->doc = *op->value;
        p->doc.owned = 0;
        return 0;
    }
    if (!find_place(p, op->path, &at))
        return fail(p, "replace operation does not apply: doc is missing path: %.*s" MISSING,
                    KL_PRI(op->path));
    if (!get(p, &at, &ignored))
        return fail(p, "replace operation does not apply: doc is missing key: %.*s" MISSING,
                    KL_PRI(op->path));
    if (at.container->kind == KL_MAP)
        return put(p, &at, value_of(op));
    array_index(p, at.key, at.container->n, &i);
    struct kl_value *slot = kl_edit_at(p->arena, at.container, i);
    if (!slot)
        return kl_patch_no_memory(p->err);
    *slot = value_of(op);
    slot->owned = 0;
    return 0;
}

static int apply_move(struct json_patch *p, const struct operation *op)
{
    struct place at;
    const struct kl_value *have;
    if (!op->from.p)
        return fail(p,
                    "move operation failed to decode from: operation, missing from field" MISSING);
    if (!find_place(p, op->from, &at))
        return fail(p, "move operation does not apply: doc is missing from path: %.*s" MISSING,
                    KL_PRI(op->from));
    if (!get(p, &at, &have))
        return wrap(p, KL_EINVALID, "error in move for path:", at.key);
    struct kl_value moved = have ? *have : kl_null();
    int r = take_out(p, &at);
    if (r)
        return wrap(p, r, "error in move for path:", at.key);
    if (!op->path.p)
        return fail(p,
                    "move operation failed to decode path: operation missing path field" MISSING);
    if (!find_place(p, op->path, &at))
        return fail(p,
                    "move operation does not apply: doc is missing destination path: %.*s" MISSING,
                    KL_PRI(op->path));
    r = put(p, &at, moved);
    return r ? wrap(p, r, "error in move for path:", op->path) : 0;
}

// Absent and null are the same here; numbers and text are compared as values.
static bool equal(const struct kl_value *a, const struct kl_value *b)
{
    return kl_value_equal(a && a->kind == KL_NULL ? NULL : a, b && b->kind == KL_NULL ? NULL : b);
}

static int apply_test(struct json_patch *p, const struct operation *op)
{
    struct place at;
    const struct kl_value *have = &p->doc;
    if (!op->path.p)
        return fail(p,
                    "test operation failed to decode path: operation missing path field" MISSING);
    if (op->path.n) {
        if (!find_place(p, op->path, &at))
            return fail(p, "test operation does not apply: is missing path: %.*s" MISSING,
                        KL_PRI(op->path));
        if (!get(p, &at, &have))
            return wrap(p, KL_EINVALID, "error in test for path:", op->path);
    }
    if (equal(have, op->value))
        return 0;
    return fail(p, "testing value %.*s failed: test failed", KL_PRI(op->path));
}

static int apply_copy(struct json_patch *p, const struct operation *op)
{
    struct place at;
    const struct kl_value *have;
    if (!op->from.p)
        return fail(p,
                    "copy operation failed to decode from: operation, missing from field" MISSING);
    if (!find_place(p, op->from, &at))
        return fail(p, "copy operation does not apply: doc is missing from path: %.*s" MISSING,
                    KL_PRI(op->from));
    if (!get(p, &at, &have))
        return wrap(p, KL_EINVALID, "error in copy for from:", op->from);
    if (!op->path.p)
        return fail(p, "copy operation failed to decode path" MISSING);
    struct kl_value copied = have ? *have : kl_null();
    if (!find_place(p, op->path, &at))
        return fail(p,
                    "copy operation does not apply: doc is missing destination path: %.*s" MISSING,
                    KL_PRI(op->path));
    // Copies share their nodes until one is changed, but count with the size that they have as
    // text.
    if (have) {
        struct kl_buf text;
        kl_buf_init(&text, MAX_COPY_BYTES + 1);
        kl_json_write(&text, &copied);
        p->copied_bytes += text.err ? MAX_COPY_BYTES + 1 : text.n;
        kl_buf_fini(&text);
    }
    if (p->copied_bytes > MAX_COPY_BYTES)
        return fail(p,
                    "Unable to complete the copy, the accumulated size increase of copy is %zu, "
                    "exceeding the limit %d",
                    p->copied_bytes, MAX_COPY_BYTES);
    // The copied value may be an ancestor of its own destination: a deep copy keeps the tree a
    // tree.
    if (copied.kind >= KL_ARRAY && kl_copy(p->arena, &copied, &copied))
        return kl_patch_no_memory(p->err);
    int r = put(p, &at, copied);
    if (r && r != KL_ENOMEM && p->err)
        kl_error_wrap(p->err, "error while adding value during copy");
    return r;
}

static int apply(struct json_patch *p, const struct operation *op)
{
    static const struct {
        struct kl_str name;
        int (*apply)(struct json_patch *p, const struct operation *op);
    } kinds[] = {{KL_STR_INIT("add"), apply_add},         {KL_STR_INIT("remove"), apply_remove},
                 {KL_STR_INIT("replace"), apply_replace}, {KL_STR_INIT("move"), apply_move},
                 {KL_STR_INIT("test"), apply_test},       {KL_STR_INIT("copy"), apply_copy}};
    for (size_t i = 0; i < KL_COUNT(kinds); i++)
        if (kl_str_eq(op->op, kinds[i].name))
            return kinds[i].apply(p, op);
    struct kl_str name = op->op.p ? op->op : KL_STR("unknown");
    return fail(p, "Unexpected kind: %.*s", KL_PRI(name));
}

static int read_text(const struct kl_value *op, const char *name, struct kl_str *ret,
                     struct kl_error *err)
{
    const struct kl_value *v = kl_map_value(op, kl_str(name));
    *ret = (struct kl_str){NULL, 0};
    if (!v || v->kind == KL_NULL)
        return 0;
    if (v->kind != KL_STRING)
        return kl_error_set(err, KL_EBADREQUEST,
                            "error decoding patch: json: cannot unmarshal %s into Go struct field "
                            "jsonPatchOp.%s of type string",
                            kl_json_kind(v), name);
    *ret = v->n ? kl_text(v) : KL_STR("");
    return 0;
}

static int read_operation(const struct kl_value *v, struct operation *ret, struct kl_error *err)
{
    *ret = (struct operation){.value = NULL};
    if (v->kind == KL_NULL)
        return 0;
    if (v->kind != KL_MAP)
        return kl_error_set(err, KL_EBADREQUEST,
                            "error decoding patch: json: cannot unmarshal %s into Go value of type "
                            "handlers.jsonPatchOp",
                            kl_json_kind(v));
    ret->value = kl_map_value(v, KL_STR("value"));
    int r = read_text(v, "op", &ret->op, err);
    if (!r)
        r = read_text(v, "path", &ret->path, err);
    return r ? r : read_text(v, "from", &ret->from, err);
}

int kl_patch_json(struct kl_arena *a, const struct kl_value *untyped, const struct kl_value *patch,
                  struct kl_value *ret, struct kl_error *err)
{
    struct kl_error scratch;
    struct operation op;
    if (!err)
        err = &scratch;
    if (patch && patch->kind != KL_NULL && patch->kind != KL_ARRAY)
        return kl_error_set(err, KL_EBADREQUEST,
                            "error decoding patch: json: cannot unmarshal %s into Go value of type "
                            "[]handlers.jsonPatchOp",
                            kl_json_kind(patch));
    if (kl_len(patch) > MAX_OPERATIONS)
        return kl_error_set(err, KL_ETOOLARGE,
                            "Request entity too large: The allowed maximum operations in a JSON "
                            "patch is %d, got %zu",
                            MAX_OPERATIONS, kl_len(patch));
    for (KL_EACH(item, patch)) {
        int r = read_operation(item, &op, err);
        if (r)
            return r;
    }
    struct json_patch p = {.arena = a, .doc = *untyped, .err = err};
    p.doc.owned = 0;
    for (KL_EACH(item, patch)) {
        int r = read_operation(item, &op, err);
        if (!r)
            r = apply(&p, &op);
        if (p.no_memory)
            return kl_patch_no_memory(err);
        if (r)
            return r;
    }
    *ret = p.doc;
    return 0;
}
