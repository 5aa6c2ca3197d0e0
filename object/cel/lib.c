// SPDX-License-Identifier: Apache-2.0
// Finding functions, reading signatures, and whether values fit one.
#include "object/cel/lib_int.h"

const struct overload *cel_function(struct kl_str name, unsigned env_flags, size_t *ret_n)
{
    for (size_t i = 0; i < cel_noverloads; i++) {
        const struct overload *first = &cel_overloads[i];
        if (!kl_str_eqz(name, first->function))
            continue;
        if ((first->flags & OV_PATCH) && !(env_flags & KL_CEL_PATCH_TYPES))
            return NULL;
        size_t n = 1;
        while (i + n < cel_noverloads && !strcmp(first[n].function, first->function))
            n++;
        *ret_n = n;
        return first;
    }
    return NULL;
}

struct reader {
    struct kl_arena *arena;
    struct cel_mapping *map;
    const char *p;
    struct kl_str params[4];
    const struct cel_type *vars[4];
    int nparams;
};

static const struct cel_type *param(struct reader *r, struct kl_str name)
{
    for (int i = 0; i < r->nparams; i++)
        if (kl_str_eq(r->params[i], name))
            return r->vars[i];
    const struct cel_type *t = r->map ? cel_new_var(r->map) : CEL_TYPE(T_DYN);
    r->params[r->nparams] = name;
    r->vars[r->nparams++] = t;
    return t;
}

static const struct cel_type *named(struct reader *r, struct kl_str word)
{
    static const struct {
        const char *word, *name;
        enum type_kind kind;
    } names[] = {
        {"int", NULL, T_INT},
        {"uint", NULL, T_UINT},
        {"double", NULL, T_DOUBLE},
        {"bool", NULL, T_BOOL},
        {"string", NULL, T_STRING},
        {"bytes", NULL, T_BYTES},
        {"dyn", NULL, T_DYN},
        {"duration", NULL, T_DURATION},
        {"timestamp", NULL, T_TIMESTAMP},
        {"IP", "net.IP", T_OPAQUE},
        {"CIDR", "net.CIDR", T_OPAQUE},
        {"URL", "kubernetes.URL", T_STRUCT},
        {"Quantity", "kubernetes.Quantity", T_STRUCT},
        {"Semver", "kubernetes.Semver", T_STRUCT},
        {"Format", "kubernetes.NamedFormat", T_STRUCT},
        {"Authorizer", "kubernetes.authorization.Authorizer", T_STRUCT},
        {"PathCheck", "kubernetes.authorization.PathCheck", T_STRUCT},
        {"GroupCheck", "kubernetes.authorization.GroupCheck", T_STRUCT},
        {"ResourceCheck", "kubernetes.authorization.ResourceCheck", T_STRUCT},
        {"Decision", "kubernetes.authorization.Decision", T_STRUCT},
    };
    if (word.n == 1)
        return param(r, word);
    for (size_t i = 0; i < KL_COUNT(names); i++)
        if (kl_str_eqz(word, names[i].word))
            return names[i].name ? cel_type_named(r->arena, names[i].kind, kl_str(names[i].name))
                                 : CEL_TYPE(names[i].kind);
    return NULL;
}

static const struct cel_type *read_type(struct reader *r)
{
    const char *from = r->p;
    while ((*r->p >= 'a' && *r->p <= 'z') || (*r->p >= 'A' && *r->p <= 'Z'))
        r->p++;
    struct kl_str word = {from, (size_t)(r->p - from)};
    if (*r->p != '(')
        return named(r, word);
    r->p++;
    const struct cel_type *first = read_type(r), *second = NULL, *made = NULL;
    if (*r->p == ',') {
        r->p += 2;
        second = read_type(r);
    }
    r->p++; // )
    if (!first)
        return NULL;
    if (kl_str_eqz(word, "list"))
        made = cel_type_list(r->arena, first);
    else if (kl_str_eqz(word, "map"))
        made = cel_type_map(r->arena, first, second);
    else if (kl_str_eqz(word, "optional"))
        made = cel_type_optional(r->arena, first);
    else
        made = cel_type_of_type(r->arena, first);
    return made;
}

bool cel_signature(struct kl_arena *a, const struct overload *o, struct cel_mapping *m,
                   struct signature *ret)
{
    struct reader r = {.arena = a, .map = m, .p = o->sig};
    *ret = (struct signature){0};
    while (*r.p != '-') {
        if (!(ret->args[ret->n++] = read_type(&r)))
            return false;
        r.p += *r.p == ',' ? 2 : 1;
    }
    r.p += 3; // "-> "
    ret->result = read_type(&r);
    return ret->result && !(m && m->out_of_memory);
}

static bool fits(struct kl_arena *a, const struct cel_type *t, struct kl_cel_val v)
{
    if (cel_is_dyn(t) || t->kind == T_PARAM)
        return true;
    if (!kl_str_eq(t->name, cel_kind_name(v)))
        return false;
    if (t->kind == T_LIST)
        return !cel_count(v) || fits(a, t->p[0], cel_get(a, v, 0));
    if (t->kind == T_MAP && cel_count(v)) {
        struct kl_cel_val key, value;
        kl_cel_entry(a, v, 0, &key, &value);
        return fits(a, t->p[0], key) && fits(a, t->p[1], value);
    }
    return true;
}

bool cel_fits(const struct overload *o, struct kl_arena *a, const struct kl_cel_val *args, size_t n)
{
    struct signature sig;
    if (!cel_signature(a, o, NULL, &sig) || sig.n != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (cel_is_error(args[i]) || !fits(a, sig.args[i], args[i]))
            return false;
    return true;
}
