// SPDX-License-Identifier: Apache-2.0
// Quantities and semantic versions.
#include "object/cel/lib_int.h"
#include <math.h>

#define NANO ((__int128)1000000000)

static struct kl_cel_val new_quantity(struct cel_run *r, const struct kl_quantity *q, bool computed)
{
    struct cel_quantity *made = KL_ARENA_NEW(cel_arena(r), struct cel_quantity);
    if (!made)
        return CEL_NO_MEMORY;
    made->q = *q;
    return (struct kl_cel_val){.kind = KL_CEL_QUANTITY, .form = computed, .p = made};
}

static const struct kl_quantity *q_of(struct kl_cel_val v)
{
    return &((const struct cel_quantity *)v.p)->q;
}

CEL_FN(cel_fn_quantity)
{
    struct kl_quantity q;
    struct kl_error err;
    if (kl_quantity_parse(cel_text(args[0]), &q, &err))
        return cel_errf(cel_arena(r), "%s", err.msg);
    return new_quantity(r, &q, false);
}

CEL_FN(cel_fn_is_quantity)
{
    struct kl_quantity q;
    return cel_ok(kl_quantity_parse(cel_text(args[0]), &q, NULL) == 0);
}

CEL_FN(cel_fn_q_sign)
{
    __int128 v = q_of(args[0])->nano;
    return cel_i(v < 0 ? -1 : v > 0);
}

CEL_FN(cel_fn_q_gt)
{
    return cel_ok(kl_quantity_cmp(q_of(args[0]), q_of(args[1])) > 0);
}

CEL_FN(cel_fn_q_lt)
{
    return cel_ok(kl_quantity_cmp(q_of(args[0]), q_of(args[1])) < 0);
}

CEL_FN(cel_fn_q_cmp)
{
    int c = kl_quantity_cmp(q_of(args[0]), q_of(args[1]));
    return cel_i(c < 0 ? -1 : c > 0);
}

CEL_FN(cel_fn_q_float)
{
    __int128 v = q_of(args[0])->nano;
    return kl_cel_double((double)((long double)v / 1e9L));
}

static bool whole(const struct kl_quantity *q, int64_t *ret)
{
    __int128 v = q->nano / NANO;
    *ret = (int64_t)v;
    return q->nano % NANO == 0 && v == *ret;
}

CEL_FN(cel_fn_q_int)
{
    int64_t i;
    return whole(q_of(args[0]), &i) ? cel_i(i) : CEL_ERR("cannot convert value to integer");
}

CEL_FN(cel_fn_q_is_int)
{
    int64_t i;
    return cel_ok(whole(q_of(args[0]), &i));
}

static struct kl_cel_val changed(struct cel_run *r, const struct kl_cel_val *args,
                                 void (*change)(struct kl_quantity *, const struct kl_quantity *))
{
    struct kl_quantity sum = *q_of(args[0]), other;
    if (args[1].kind == KL_CEL_INT)
        other = (struct kl_quantity){.nano = args[1].i * NANO, .format = 2};
    else
        other = *q_of(args[1]);
    change(&sum, &other);
    return new_quantity(r, &sum, true);
}

CEL_FN(cel_fn_q_add)
{
    return changed(r, args, kl_quantity_add);
}

CEL_FN(cel_fn_q_sub)
{
    return changed(r, args, kl_quantity_sub);
}

// ---- semantic versions: blang/semver
static bool is_digits(struct kl_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return s.n > 0;
}

static bool is_word(struct kl_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              c == '-'))
            return false;
    }
    return s.n > 0;
}

static const char *part_error(struct kl_arena *a, const char *what, struct kl_str s)
{
    struct kl_str q = cel_quote(a, s);
    return kl_arena_printf(a, "%s %.*s", what, KL_PRI(q)).p;
}

static const char *atoi_error(struct kl_arena *a, struct kl_str s)
{
    struct kl_str q = cel_quote(a, s);
    return kl_arena_printf(a, "strconv.ParseUint: parsing %.*s: value out of range", KL_PRI(q)).p;
}

static const char *number_error(struct kl_arena *a, const char *name, struct kl_str s,
                                uint64_t *ret)
{
    if (!is_digits(s))
        return part_error(a, kl_arena_printf(a, "Invalid character(s) found in %s number", name).p,
                          s);
    if (s.n > 1 && s.p[0] == '0')
        return part_error(a,
                          kl_arena_printf(a, "%c%s number must not contain leading zeroes",
                                          name[0] - 32, name + 1)
                              .p,
                          s);
    return kl_str_to_u64(s, ret) ? NULL : atoi_error(a, s);
}

static const char *words_error(struct kl_arena *a, struct kl_str s, bool pre)
{
    struct kl_str rest = s, word;
    while (rest.p && kl_str_split(&rest, '.', &word)) {
        uint64_t ignored;
        if (!word.n)
            return pre ? "Prerelease is empty" : "Build meta data is empty";
        if (!is_word(word))
            return part_error(a,
                              pre ? "Invalid character(s) found in prerelease"
                                  : "Invalid character(s) found in build meta data",
                              word);
        if (pre && is_digits(word) && word.n > 1 && word.p[0] == '0')
            return part_error(a, "Numeric PreRelease version must not contain leading zeroes",
                              word);
        if (pre && is_digits(word) && !kl_str_to_u64(word, &ignored))
            return atoi_error(a, word);
    }
    return NULL;
}

static const char *parse_semver(struct kl_arena *a, struct kl_str s, struct cel_semver *ret)
{
    static const char *const names[] = {"major", "minor", "patch"};
    struct kl_str part[3] = {{0}}, patch;
    const char *bad;
    *ret = (struct cel_semver){0};
    if (!s.n)
        return "Version string empty";
    ptrdiff_t dot = kl_str_chr(s, '.');
    ptrdiff_t second = dot < 0 ? -1 : kl_str_chr(kl_str_from(s, (size_t)dot + 1), '.');
    if (second < 0)
        return "No Major.Minor.Patch elements found";
    part[0] = (struct kl_str){s.p, (size_t)dot};
    part[1] = (struct kl_str){s.p + dot + 1, (size_t)second};
    patch = kl_str_from(s, (size_t)(dot + second) + 2);
    for (int i = 0; i < 2; i++)
        if ((bad = number_error(a, names[i], part[i], &ret->part[i])))
            return bad;
    struct kl_str build = KL_STR(""), pre = KL_STR("");
    ptrdiff_t plus = kl_str_chr(patch, '+'), minus;
    if (plus >= 0) {
        build = kl_str_from(patch, (size_t)plus + 1);
        patch.n = (size_t)plus;
    }
    minus = kl_str_chr(patch, '-');
    if (minus >= 0) {
        pre = kl_str_from(patch, (size_t)minus + 1);
        patch.n = (size_t)minus;
    }
    if ((bad = number_error(a, names[2], patch, &ret->part[2])))
        return bad;
    if (minus >= 0 && (bad = words_error(a, pre, true)))
        return bad;
    if (plus >= 0 && (bad = words_error(a, build, false)))
        return bad;
    ret->pre = pre;
    ret->build = build;
    return NULL;
}

int cel_semver_cmp(const struct cel_semver *x, const struct cel_semver *y)
{
    for (int i = 0; i < 3; i++)
        if (x->part[i] != y->part[i])
            return x->part[i] < y->part[i] ? -1 : 1;
    if (!x->pre.n || !y->pre.n)
        return (x->pre.n == 0) - (y->pre.n == 0);
    struct kl_str a = x->pre, b = y->pre, wa, wb;
    for (;;) {
        bool more_a = a.p && kl_str_split(&a, '.', &wa), more_b = b.p && kl_str_split(&b, '.', &wb);
        if (!more_a || !more_b)
            return more_a - more_b;
        uint64_t na = 0, nb = 0;
        bool da = is_digits(wa), db = is_digits(wb);
        if (da != db)
            return da ? -1 : 1;
        if (da) {
            kl_str_to_u64(wa, &na);
            kl_str_to_u64(wb, &nb);
            if (na != nb)
                return na < nb ? -1 : 1;
        } else {
            int c = kl_str_cmp(wa, wb);
            if (c)
                return c < 0 ? -1 : 1;
        }
    }
}

bool kl_cel_semver_cmp(struct kl_arena *a, struct kl_str x, struct kl_str y, int *ret)
{
    struct cel_semver v, w;
    if (parse_semver(a, x, &v) || parse_semver(a, y, &w))
        return false;
    *ret = cel_semver_cmp(&v, &w);
    return true;
}

// What semver(s, true) makes of a loose version before it is parsed.
static const char *normalized(struct kl_arena *a, struct kl_str s, struct kl_str *ret)
{
    struct kl_str part[3], rest = s;
    int n = 0;
    if (kl_str_starts(rest, KL_STR("v")))
        rest = kl_str_from(rest, 1);
    while (n < 2) {
        ptrdiff_t dot = kl_str_chr(rest, '.');
        if (dot < 0)
            break;
        part[n++] = (struct kl_str){rest.p, (size_t)dot};
        rest = kl_str_from(rest, (size_t)dot + 1);
    }
    part[n++] = rest;
    for (int i = 0; i < n; i++) {
        size_t zeros = 0;
        if (part[i].n <= 1)
            continue;
        while (zeros < part[i].n && part[i].p[zeros] == '0')
            zeros++;
        struct kl_str p = kl_str_from(part[i], zeros);
        if (!p.n || p.p[0] < '0' || p.p[0] > '9')
            p = kl_arena_printf(a, "0%.*s", KL_PRI(p));
        part[i] = p;
    }
    if (n < 3 && (kl_str_chr(part[n - 1], '+') >= 0 || kl_str_chr(part[n - 1], '-') >= 0))
        return "short version cannot contain PreRelease/Build meta data";
    while (n < 3)
        part[n++] = KL_STR("0");
    *ret = kl_arena_printf(a, "%.*s.%.*s.%.*s", KL_PRI(part[0]), KL_PRI(part[1]), KL_PRI(part[2]));
    return ret->p ? NULL : "out of memory";
}

static const char *semver_of(struct kl_arena *a, const struct kl_cel_val *args, size_t n,
                             struct cel_semver *ret)
{
    struct kl_str s = cel_text(args[0]);
    const char *bad = n == 2 && args[1].b ? normalized(a, s, &s) : NULL;
    return bad ? bad : parse_semver(a, s, ret);
}

CEL_FN(cel_fn_semver)
{
    struct cel_semver *v = KL_ARENA_NEW(cel_arena(r), struct cel_semver);
    if (!v)
        return CEL_NO_MEMORY;
    const char *bad = semver_of(cel_arena(r), args, n, v);
    return bad ? cel_errf(cel_arena(r), "%s", bad)
               : (struct kl_cel_val){.kind = KL_CEL_SEMVER, .p = v};
}

CEL_FN(cel_fn_is_semver)
{
    struct cel_semver v;
    return cel_ok(!semver_of(cel_arena(r), args, n, &v));
}

CEL_FN(cel_fn_sv_gt)
{
    return cel_ok(cel_semver_cmp(args[0].p, args[1].p) > 0);
}

CEL_FN(cel_fn_sv_lt)
{
    return cel_ok(cel_semver_cmp(args[0].p, args[1].p) < 0);
}

CEL_FN(cel_fn_sv_cmp)
{
    return cel_i(cel_semver_cmp(args[0].p, args[1].p));
}

CEL_FN(cel_fn_sv_major)
{
    return cel_i((int64_t)((const struct cel_semver *)args[0].p)->part[0]);
}

CEL_FN(cel_fn_sv_minor)
{
    return cel_i((int64_t)((const struct cel_semver *)args[0].p)->part[1]);
}

CEL_FN(cel_fn_sv_patch)
{
    return cel_i((int64_t)((const struct cel_semver *)args[0].p)->part[2]);
}
