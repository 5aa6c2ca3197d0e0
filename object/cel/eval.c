// SPDX-License-Identifier: Apache-2.0
// Evaluation of a plan: operators, calls, constructors, folds. Errors are values until the end.
#include "object/cel/plan_int.h"
#include "object/cel/re2_int.h"

struct kl_arena *cel_arena(struct cel_run *r)
{
    return r->arena;
}

const struct kl_cel_authorizer *cel_run_authorizer(struct cel_run *r)
{
    return r->with->authorizer;
}

static struct kl_cel_val stopped(struct cel_run *r, int why)
{
    if (!r->stop)
        r->stop = why;
    return CEL_ERR("operation cancelled: actual cost limit exceeded");
}

bool cel_charge(struct cel_run *r, uint64_t cost)
{
    r->cost = r->cost + cost < cost ? UINT64_MAX : r->cost + cost;
    if (r->limit && r->cost > r->limit)
        stopped(r, KL_ELIMIT);
    return !r->stop;
}

// && and ||: the deciding value wins over errors on either side.
static struct kl_cel_val run_logic(struct cel_run *r, const struct cel_plan *p)
{
    bool deciding = p->kind == P_OR, failed = false;
    struct kl_cel_val error = CEL_NO_OVERLOAD;
    for (uint32_t i = 0; i < p->n; i++) {
        struct kl_cel_val v = cel_run_plan(r, p->args[i]);
        if (r->stop)
            return v;
        if (v.kind == KL_CEL_BOOL) {
            if (v.b == deciding)
                return v;
        } else if (!failed) {
            failed = true;
            error = cel_is_error(v) ? v : error;
        }
    }
    return failed ? error : kl_cel_bool(!deciding);
}

static struct kl_cel_val run_equal(struct cel_run *r, const struct cel_plan *p)
{
    struct kl_cel_val args[2], result;
    for (int i = 0; i < 2; i++) {
        args[i] = cel_run_plan(r, p->args[i]);
        if (r->stop)
            return args[i];
    }
    if (cel_is_error(args[0]) || cel_is_error(args[1]))
        result = cel_is_error(args[0]) ? args[0] : args[1];
    else
        result = cel_equal(r->arena, args[0], args[1]);
    if (p->kind == P_NE && !cel_is_error(args[0]) && !cel_is_error(args[1]))
        result = kl_cel_bool(!(result.kind == KL_CEL_BOOL && result.b));
    static const struct overload rows[2] = {{"_==_", "equals", "", NULL, 0, 0},
                                            {"_!=_", "not_equals", "", NULL, 0, 0}};
    const struct overload *o = &rows[p->kind == P_NE];
    cel_charge(r, cel_call_cost(r, kl_str(o->function), o, args, 2, result));
    return result;
}

static struct kl_cel_val no_overload(struct cel_run *r, struct kl_str function,
                                     const struct kl_cel_val *args, size_t n)
{
    struct kl_str shown = KL_STR("");
    for (size_t i = 0; i < n; i++) {
        if (cel_is_error(args[i]))
            return args[i];
        struct kl_str name = cel_kind_name(args[i]);
        shown = kl_arena_printf(r->arena, "%.*s%s%.*s", KL_PRI(shown), i ? ", " : "", KL_PRI(name));
        if (!shown.p)
            return CEL_NO_MEMORY;
    }
    return cel_errf(r->arena, "no such overload: %.*s(%.*s)", KL_PRI(function), KL_PRI(shown));
}

static struct kl_cel_val dispatch(struct cel_run *r, const struct cel_plan *p,
                                  const struct kl_cel_val *args)
{
    const struct overload *o = p->overload ? p->overload : p->rows;
    r->current = o;
    if (p->flags & CALL_BARE)
        return o->fn(r, args, p->n);
    if (p->flags & CALL_ANY) {
        for (uint16_t i = 0; i < p->nrows; i++)
            if (p->rows[i].fn && cel_fits(&p->rows[i], r->arena, args, p->n))
                return p->rows[i].fn(r, args, p->n);
        return no_overload(r, p->function, args, p->n);
    }
    return cel_fits(o, r->arena, args, p->n) ? o->fn(r, args, p->n)
                                             : no_overload(r, p->function, args, p->n);
}

static struct kl_cel_val find_pattern(struct cel_run *r, const struct cel_plan *p,
                                      const struct kl_cel_val *args);

static struct kl_cel_val run_call(struct cel_run *r, const struct cel_plan *p)
{
    struct kl_cel_val args[CEL_MAX_ARGS], result = CEL_NO_OVERLOAD;
    bool failed = false;
    for (uint32_t i = 0; i < p->n; i++) {
        args[i] = cel_run_plan(r, p->args[i]);
        if (r->stop)
            return args[i];
        if (cel_is_error(args[i])) {
            if (!failed)
                result = args[i];
            failed = true;
            if ((p->flags & CALL_EARLY) && i + 1 < p->n)
                return result; // the rest is not evaluated, and the call not charged
        }
    }
    if (!failed)
        result = p->regex ? find_pattern(r, p, args) : dispatch(r, p, args);
    cel_charge(r, cel_call_cost(r, p->function, p->overload, args, p->n, result));
    return result;
}

// ---- matches, find and findAll with a constant pattern
static struct kl_cel_val find_all(struct cel_run *r, const void *regex, struct kl_str text,
                                  int64_t limit)
{
    struct kl_cel_val list = cel_new_growing(r->arena, KL_CEL_LIST);
    struct cel_growing *g = (struct cel_growing *)list.p;
    size_t from = 0, begin, end, last_end = SIZE_MAX;
    if (!g)
        return CEL_NO_MEMORY;
    while (from <= text.n && (limit < 0 || (int64_t)g->n < limit) &&
           cel_regex_find(regex, text, from, &begin, &end)) {
        // An empty match right behind the last one does not count.
        if (end > begin || begin != last_end) {
            if (!cel_push(r->arena, g, cel_str((struct kl_str){text.p + begin, end - begin})))
                return CEL_NO_MEMORY;
        }
        last_end = end;
        if (end > begin) {
            from = end;
        } else {
            from = end;
            if (from < text.n)
                cel_rune(text, &from);
            else
                from++;
        }
    }
    return cel_settled(list);
}

static struct kl_cel_val with_pattern(struct cel_run *r, struct kl_str function, const void *regex,
                                      const struct kl_cel_val *args, size_t n)
{
    size_t begin, end;
    struct kl_str text = cel_text(args[0]);
    if (args[0].kind != KL_CEL_STRING)
        return CEL_NO_OVERLOAD;
    if (kl_str_eqz(function, "matches"))
        return kl_cel_bool(cel_regex_find(regex, text, 0, NULL, NULL));
    if (kl_str_eqz(function, "find"))
        return cel_regex_find(regex, text, 0, &begin, &end)
                   ? cel_str((struct kl_str){text.p + begin, end - begin})
                   : cel_str(KL_STR(""));
    if (n == 3 && args[2].kind != KL_CEL_INT)
        return CEL_NO_OVERLOAD;
    return find_all(r, regex, text, n == 3 ? args[2].i : -1);
}

static struct kl_cel_val find_pattern(struct cel_run *r, const struct cel_plan *p,
                                      const struct kl_cel_val *args)
{
    return with_pattern(r, p->function, p->regex, args, p->n);
}

static struct kl_cel_val with_text(struct cel_run *r, const char *function, const char *prefix,
                                   const struct kl_cel_val *args, size_t n)
{
    struct kl_str error;
    if (args[0].kind != KL_CEL_STRING || args[1].kind != KL_CEL_STRING)
        return CEL_NO_OVERLOAD;
    void *regex = cel_regex_new(cel_text(args[1]), r->arena, &error);
    if (!regex)
        return cel_errf(r->arena, "%s%.*s", prefix, KL_PRI(error));
    struct kl_cel_val v = with_pattern(r, kl_str(function), regex, args, n);
    cel_regex_free(regex);
    return v;
}

CEL_FN(cel_fn_matches)
{
    if (args[0].kind != KL_CEL_STRING)
        return cel_errf(
            r->arena, "no such overload%s",
            args[0].kind == KL_CEL_TIMESTAMP || args[0].kind == KL_CEL_DURATION ? "" : ": matches");
    return with_text(r, "matches", "", args, n);
}

CEL_FN(cel_fn_find)
{
    return with_text(r, "find", "Illegal regex: ", args, n);
}

CEL_FN(cel_fn_find_all)
{
    return with_text(r, "findAll", "Illegal regex: ", args, n);
}

// ---- constructors
static struct kl_cel_val run_list(struct cel_run *r, const struct cel_plan *p)
{
    struct kl_cel_val *items = kl_arena_alloc(r->arena, (p->n + 1) * sizeof *items);
    size_t n = 0;
    if (!items)
        return stopped(r, KL_ENOMEM);
    struct kl_cel_val result = kl_cel_null();
    for (uint32_t i = 0; i < p->n; i++) {
        struct kl_cel_val v = cel_run_plan(r, p->args[i]);
        if (r->stop)
            return v;
        if (cel_is_error(v)) {
            result = v;
            break;
        }
        if (p->optional && p->optional[i]) {
            if (v.kind != KL_CEL_OPTIONAL) {
                result =
                    cel_errf(r->arena,
                             "cannot initialize optional list element from non-optional value %.*s",
                             KL_PRI(cel_show(r->arena, v)));
                break;
            }
            if (!v.p)
                continue;
            v = *(const struct kl_cel_val *)v.p;
        }
        items[n++] = v;
    }
    cel_charge(r, 10);
    return cel_is_error(result) ? result : cel_list_of(items, n);
}

static struct kl_cel_val bad_entry(struct cel_run *r, struct kl_str key, struct kl_cel_val v)
{
    return cel_errf(r->arena,
                    "cannot initialize optional entry '%.*s' from non-optional value %.*s",
                    KL_PRI(key), KL_PRI(cel_show(r->arena, v)));
}

static struct kl_cel_val run_map(struct cel_run *r, const struct cel_plan *p)
{
    struct kl_cel_val map = cel_new_growing(r->arena, KL_CEL_MAP), result = map;
    struct cel_growing *g = (struct cel_growing *)map.p;
    if (!g)
        return stopped(r, KL_ENOMEM);
    for (uint32_t i = 0; i < p->n; i++) {
        struct kl_cel_val k = cel_run_plan(r, p->args[2 * i]), v;
        if (r->stop)
            return k;
        if (cel_is_error(k)) {
            result = k;
            break;
        }
        v = cel_run_plan(r, p->args[2 * i + 1]);
        if (r->stop)
            return v;
        if (cel_is_error(v)) {
            result = v;
            break;
        }
        if (p->optional[i]) {
            if (v.kind != KL_CEL_OPTIONAL) {
                result = bad_entry(r, cel_show(r->arena, k), v);
                break;
            }
            if (!v.p)
                continue;
            v = *(const struct kl_cel_val *)v.p;
        }
        if (!cel_put(r->arena, g, k, v))
            return stopped(r, KL_ENOMEM);
    }
    cel_charge(r, 30);
    return cel_is_error(result) ? result : cel_settled(map);
}

static struct kl_cel_val json_patch(struct cel_run *r, const struct cel_plan *p,
                                    const struct cel_growing *fields)
{
    struct cel_patch *made = KL_ARENA_NEW(r->arena, struct cel_patch);
    if (!made)
        return stopped(r, KL_ENOMEM);
    for (uint32_t i = 0; i < fields->n; i++) {
        struct kl_str name = cel_text(fields->items[2 * i]);
        struct kl_cel_val v = fields->items[2 * i + 1];
        struct kl_str *text = kl_str_eqz(name, "op")     ? &made->v.op
                              : kl_str_eqz(name, "path") ? &made->v.path
                              : kl_str_eqz(name, "from") ? &made->v.from
                                                         : NULL;
        if (kl_str_eqz(name, "value")) {
            made->v.value = v;
            made->v.has_value = true;
        } else if (!text) {
            return cel_errf(r->arena, "unexpected JSONPatchType field: %.*s", KL_PRI(name));
        } else if (v.kind != KL_CEL_STRING) {
            return cel_errf(r->arena, "unexpected type %.*s for JSONPatchType '%.*s' field",
                            KL_PRI(cel_kind_name(v)), KL_PRI(name));
        } else {
            *text = cel_text(v);
        }
    }
    return (struct kl_cel_val){.kind = KL_CEL_JSON_PATCH, .p = made};
}

static struct kl_cel_val run_struct(struct cel_run *r, const struct cel_plan *p)
{
    struct cel_object *made = KL_ARENA_NEW(r->arena, struct cel_object);
    struct kl_cel_val result = {.kind = KL_CEL_OBJECT, .p = made};
    if (!made)
        return stopped(r, KL_ENOMEM);
    made->type = p->function;
    for (uint32_t i = 0; i < p->n; i++) {
        struct kl_cel_val v = cel_run_plan(r, p->args[2 * i + 1]);
        if (r->stop)
            return v;
        if (!cel_is_error(v) && p->optional[i]) {
            if (v.kind == KL_CEL_OPTIONAL && !v.p)
                continue;
            v = v.kind == KL_CEL_OPTIONAL ? *(const struct kl_cel_val *)v.p
                                          : bad_entry(r, p->fields[i], v);
        }
        if (cel_is_error(v)) {
            result = v;
            break;
        }
        if (!cel_put(r->arena, &made->fields, cel_str(p->fields[i]), v))
            return stopped(r, KL_ENOMEM);
    }
    cel_charge(r, 40);
    if (!cel_is_error(result) && kl_str_eqz(p->function, "JSONPatch"))
        return json_patch(r, p, &made->fields);
    return result;
}

// optional.or and orValue: the right side only when it is needed; they cost nothing themselves.
static struct kl_cel_val run_or_else(struct cel_run *r, const struct cel_plan *p)
{
    struct kl_cel_val v = cel_run_plan(r, p->args[0]);
    if (r->stop || v.kind != KL_CEL_OPTIONAL)
        return v;
    if (v.p)
        return p->kind == P_OPT_OR ? v : *(const struct kl_cel_val *)v.p;
    return cel_run_plan(r, p->args[1]);
}

static struct kl_cel_val run_not_false(struct cel_run *r, const struct cel_plan *p)
{
    struct kl_cel_val v = cel_run_plan(r, p->args[0]);
    if (r->stop)
        return v;
    cel_charge(r, 1);
    return v.kind == KL_CEL_BOOL ? v : kl_cel_bool(true);
}

static struct kl_cel_val run_in_set(struct cel_run *r, const struct cel_plan *p)
{
    struct kl_cel_val v = cel_run_plan(r, p->args[0]), found;
    if (r->stop || cel_is_error(v))
        return v;
    struct kl_cel_val set = {.kind = KL_CEL_MAP, .form = F_GROWS, .p = p->set};
    return kl_cel_bool(cel_find(r->arena, set, v, &found));
}

static struct kl_cel_val run_attr_plan(struct cel_run *r, const struct cel_plan *p)
{
    struct kl_cel_val v = cel_run_attr(r, p->attr);
    if (p->kind == P_ATTR && p->attr->kind != A_COND && !r->stop)
        cel_charge(r, 1);
    return v;
}

struct kl_cel_val cel_run_plan(struct cel_run *r, const struct cel_plan *p)
{
    struct kl_cel_val v;
    switch (p->kind) {
    case P_CONST:
        return p->value;
    case P_ATTR:
        v = run_attr_plan(r, p);
        break;
    case P_TEST:
        v = cel_run_attr(r, p->attr);
        if (v.kind == KL_CEL_OPTIONAL)
            v = kl_cel_bool(v.p != NULL);
        break;
    case P_OR:
    case P_AND:
        v = run_logic(r, p);
        break;
    case P_EQ:
    case P_NE:
        v = run_equal(r, p);
        break;
    case P_NOT_FALSE:
        v = run_not_false(r, p);
        break;
    case P_CALL:
        v = run_call(r, p);
        break;
    case P_OPT_OR:
    case P_OPT_OR_VALUE:
        v = run_or_else(r, p);
        break;
    case P_LIST:
        v = run_list(r, p);
        break;
    case P_MAP:
        v = run_map(r, p);
        break;
    case P_STRUCT:
        v = run_struct(r, p);
        break;
    case P_IN_SET:
        v = run_in_set(r, p);
        break;
    default:
        v = cel_run_fold(r, p);
        break;
    }
    if (cel_is_error(v) && v.s == cel_no_memory)
        r->stop = r->stop ? r->stop : KL_ENOMEM;
    return v;
}
