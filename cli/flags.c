// SPDX-License-Identifier: Apache-2.0
#include "cli/flags.h"
#include "cli/flags_int.h"
#include "object/yaml.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { CONFIG_MAX = 1 << 20 };

static bool is_bool(const struct kl_flag *f)
{
    return f->kind == KL_FLAG_BOOL || f->kind == KL_FLAG_IGNORED_BOOL;
}

static int set_flag(struct kl_flag_run *p, struct kl_flag_at at, struct kl_str v,
                    enum kl_flag_source src)
{
    uint8_t *by = &p->set_by[at.index];
    if (src < *by)
        return 0;
    struct kl_str text = kl_arena_dup(p->o->arena, v);
    if (!text.p)
        return kl_error_set(p->err, KL_ENOMEM, "out of memory");
    int rc = kl_flag_set(p, &at, text, *by != src);
    *by = (uint8_t)src;
    return rc;
}

// The name as it is in the tables: pflag's programs take _ for -.
static bool same_name(const struct kl_flag_run *p, struct kl_str name, const char *z)
{
    if (!p->o->pflag)
        return kl_str_eqz(name, z);
    for (size_t i = 0; i < name.n; i++)
        if (!z[i] || (name.p[i] == '_' ? '-' : name.p[i]) != z[i])
            return false;
    return !z[name.n];
}

// at.flag is NULL when there is no such.
static struct kl_flag_at find_flag(const struct kl_flag_run *p, struct kl_str name, bool letter)
{
    size_t base = 0;
    for (size_t t = 0; t < p->o->ntables; t++) {
        const struct kl_flag_table *table = &p->o->tables[t];
        for (size_t i = 0; i < table->n; i++) {
            const struct kl_flag *f = &table->flags[i];
            if ((!letter || !p->o->pflag) && same_name(p, name, f->name))
                return (struct kl_flag_at){f, table->options, base + i};
            if (letter && name.n == 1 && f->letter == name.p[0])
                return (struct kl_flag_at){f, table->options, base + i};
        }
        base += table->n;
    }
    return (struct kl_flag_at){0};
}

// ---- the config file

static int read_file(struct kl_flag_run *p, const char *path, struct kl_str *ret)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return kl_error_errno(p->err, errno, "config file %s", path);
    char *text = kl_arena_alloc(p->o->arena, CONFIG_MAX);
    size_t n = text ? fread(text, 1, CONFIG_MAX, f) : 0;
    bool failed = ferror(f);
    fclose(f);
    *ret = (struct kl_str){text, n};
    if (!text)
        return kl_error_set(p->err, KL_ENOMEM, "out of memory");
    if (failed)
        return kl_error_set(p->err, KL_EIO, "config file %s: cannot be read", path);
    return n < CONFIG_MAX ? 0
                          : kl_error_set(p->err, KL_ETOOLARGE, "config file %s: over %d bytes",
                                         path, CONFIG_MAX);
}

static int scalar(struct kl_flag_run *p, struct kl_flag_at at, const struct kl_value *v)
{
    struct kl_buf b;
    int rc;
    kl_buf_init(&b, 64 * 1024);
    if (kl_is(v, KL_STRING))
        kl_buf_puts(&b, kl_text(v));
    else
        kl_json_write(&b, v);
    rc = set_flag(p, at, kl_buf_str(&b), KL_FROM_FILE);
    kl_buf_fini(&b);
    return rc;
}

static int apply_file(struct kl_flag_run *p, const char *path)
{
    struct kl_str text;
    struct kl_value v;
    int rc = read_file(p, path, &text);
    if (rc || !kl_str_trim(text).n)
        return rc;
    if ((rc = kl_yaml_parse(p->o->arena, text, NULL, &v, p->err)))
        return kl_error_wrap(p->err, "config file %s", path);
    if (!kl_is(&v, KL_MAP) && !kl_is(&v, KL_NULL))
        return kl_error_set(p->err, KL_EINVALID, "config file %s: not a map of flags", path);
    for (KL_MAP_EACH_KEY(kv, &v)) {
        struct kl_flag_at at = find_flag(p, kl_text(kv), true);
        if (!at.flag)
            return kl_error_set(p->err, KL_EINVALID, "config file %s: unknown key %.*s", path,
                                KL_PRI(kl_text(kv)));
        if (kl_is(kv + 1, KL_ARRAY)) {
            for (KL_EACH(x, kv + 1))
                if ((rc = scalar(p, at, x)))
                    return rc;
        } else if ((rc = scalar(p, at, kv + 1))) {
            return rc;
        }
    }
    return 0;
}

static const char *config_of(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (!strncmp(argv[i], "--config=", 9))
            return argv[i] + 9;
        if ((!strcmp(argv[i], "--config") || !strcmp(argv[i], "-c")) && i + 1 < argc)
            return argv[i + 1];
    }
    return getenv("KINGLET_CONFIG_FILE");
}

// ---- the command line

static int apply_argv(struct kl_flag_run *p, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        struct kl_str s = kl_str(argv[i]);
        if (s.n < 2 || s.p[0] != '-')
            return kl_error_set(p->err, KL_EINVALID, "unexpected argument \"%s\"", argv[i]);
        s = kl_str_from(s, s.p[1] == '-' ? 2 : 1);
        ptrdiff_t eq = kl_str_chr(s, '=');
        struct kl_str name = eq < 0 ? s : (struct kl_str){s.p, (size_t)eq};
        struct kl_flag_at at = find_flag(p, name, true);
        if (!at.flag)
            return kl_error_set(p->err, KL_EINVALID, "flag provided but not defined: -%.*s",
                                KL_PRI(name));
        struct kl_str v;
        if (eq >= 0)
            v = kl_str_from(s, (size_t)eq + 1);
        else if (is_bool(at.flag))
            v = KL_STR("true");
        else if (i + 1 < argc)
            v = kl_str(argv[++i]);
        else
            return kl_error_set(p->err, KL_EINVALID, "flag needs an argument: -%s", at.flag->name);
        int rc = set_flag(p, at, v, KL_FROM_ARGV);
        if (rc)
            return rc;
    }
    return 0;
}

// -x, -xVALUE, -x VALUE, -x=VALUE, and several letters of booleans together.
static int apply_letters(struct kl_flag_run *p, const char *arg, const char *next, bool *ret_took)
{
    for (const char *c = arg + 1; *c; c++) {
        struct kl_flag_at at = find_flag(p, (struct kl_str){c, 1}, true);
        struct kl_str v = KL_STR("true");
        if (!at.flag)
            return kl_error_set(p->err, KL_EINVALID, "unknown shorthand flag: '%c' in -%s", *c, c);
        bool last = true;
        if (c[1] == '=')
            v = kl_str(c + 2);
        else if (is_bool(at.flag))
            last = false;
        else if (c[1])
            v = kl_str(c + 1);
        else if (next) {
            v = kl_str(next);
            *ret_took = true;
        } else {
            return kl_error_set(p->err, KL_EINVALID, "flag needs an argument: '%c' in -%s", *c, c);
        }
        int rc = set_flag(p, at, v, KL_FROM_ARGV);
        if (rc || last)
            return rc;
    }
    return 0;
}

static int refuse_arguments(struct kl_flag_run *p, int n, char **argv)
{
    struct kl_buf b;
    kl_buf_init(&b, 64 * 1024);
    for (int i = 0; i < n; i++)
        kl_buf_printf(&b, "%s\"%s\"", i ? " " : "", argv[i]);
    int rc = kl_error_set(p->err, KL_EINVALID, "\"%s\" does not take any arguments, got [%.*s]",
                          p->o->pflag, KL_PRI(kl_buf_str(&b)));
    kl_buf_fini(&b);
    return rc;
}

static int apply_pflags(struct kl_flag_run *p, int argc, char **argv)
{
    int extra = 0, rc = 0;
    for (int i = 1; i < argc && !rc; i++) {
        struct kl_str s = kl_str(argv[i]);
        if (s.n < 2 || s.p[0] != '-') { // told of when the flags are good
            argv[1 + extra++] = argv[i];
            continue;
        }
        if (s.p[1] != '-') {
            bool took = false;
            rc = apply_letters(p, argv[i], i + 1 < argc ? argv[i + 1] : NULL, &took);
            i += took;
            continue;
        }
        if (s.n == 2) { // the flags end here
            while (++i < argc)
                argv[1 + extra++] = argv[i];
            break;
        }
        s = kl_str_from(s, 2);
        if (s.p[0] == '-' || s.p[0] == '=')
            return kl_error_set(p->err, KL_EINVALID, "bad flag syntax: %s", argv[i]);
        ptrdiff_t eq = kl_str_chr(s, '=');
        struct kl_str name = eq < 0 ? s : (struct kl_str){s.p, (size_t)eq}, v = KL_STR("true");
        struct kl_flag_at at = find_flag(p, name, false);
        if (!at.flag)
            return kl_error_set(p->err, KL_EINVALID, "unknown flag: --%.*s", KL_PRI(name));
        if (eq >= 0)
            v = kl_str_from(s, (size_t)eq + 1);
        else if (!is_bool(at.flag) && i + 1 < argc)
            v = kl_str(argv[++i]);
        else if (!is_bool(at.flag))
            return kl_error_set(p->err, KL_EINVALID, "flag needs an argument: --%.*s",
                                KL_PRI(name));
        rc = set_flag(p, at, v, KL_FROM_ARGV);
    }
    return rc || !extra ? rc : refuse_arguments(p, extra, argv + 1);
}

static int apply_rows(struct kl_flag_run *p, enum kl_flag_source src)
{
    size_t base = 0;
    for (size_t t = 0; t < p->o->ntables; t++) {
        const struct kl_flag_table *table = &p->o->tables[t];
        for (size_t i = 0; i < table->n; i++) {
            const struct kl_flag *f = &table->flags[i];
            const char *v = src == KL_FROM_DEFAULT ? f->def : f->env ? getenv(f->env) : NULL;
            struct kl_flag_at at = {f, table->options, base + i};
            int rc = v && (*v || src == KL_FROM_DEFAULT) ? set_flag(p, at, kl_str(v), src) : 0;
            if (rc)
                return rc;
        }
        base += table->n;
    }
    return 0;
}

int kl_flags_parse_tables(const struct kl_flag_parse *o, int argc, char **argv,
                          struct kl_error *err)
{
    size_t n = 0;
    for (size_t t = 0; t < o->ntables; t++)
        n += o->tables[t].n;
    struct kl_flag_run p = {.o = o, .set_by = kl_arena_zalloc(o->arena, n), .err = err};
    if (!p.set_by)
        return kl_error_set(err, KL_ENOMEM, "out of memory");
    int rc = apply_rows(&p, KL_FROM_DEFAULT);
    if (rc || o->pflag)
        return rc ? rc : apply_pflags(&p, argc, argv);
    // Only commands that have the flag read a file: another command's keys are not its own.
    bool reads = find_flag(&p, KL_STR("config"), true).flag != NULL;
    const char *asked = reads ? config_of(argc, argv) : NULL;
    if (asked || o->config_file) {
        rc = apply_file(&p, asked ? asked : o->config_file);
        if (rc == KL_ENOTFOUND && !asked)
            rc = 0;
    }
    if (!rc)
        rc = apply_rows(&p, KL_FROM_ENV);
    return rc ? rc : apply_argv(&p, argc, argv);
}

int kl_flags_parse(const struct kl_flag *flags, size_t n, void *options, struct kl_arena *a,
                   int argc, char **argv, const char *config_file, struct kl_error *err)
{
    struct kl_flag_table table = {flags, n, options};
    struct kl_flag_parse o = {
        .tables = &table, .ntables = 1, .arena = a, .config_file = config_file};
    return kl_flags_parse_tables(&o, argc, argv, err);
}

void kl_flags_help(const struct kl_flag *flags, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct kl_flag *f = &flags[i];
        char left[64], letter[8] = "";
        if (!f->help || f->kind == KL_FLAG_REFUSED)
            continue;
        if (f->letter)
            snprintf(letter, sizeof letter, ", -%c", f->letter);
        snprintf(left, sizeof left, "--%s%s%s%s", f->name, letter, f->value ? " " : "",
                 f->value ? f->value : "");
        printf("   %-38s (%s) %s", left, f->group, f->help);
        if (f->def && *f->def && f->kind != KL_FLAG_BOOL)
            printf(" (default: \"%s\")", f->def);
        if (f->env)
            printf(" [$%s]", f->env);
        putchar('\n');
    }
}
