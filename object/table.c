// SPDX-License-Identifier: Apache-2.0
// Rows and the cells that many kinds share.
#include "object/table_int.h"
#include "object/custom.h"
#include "object/json.h"
#include "object/selector.h"
#include "object/timestamp.h"
#include <inttypes.h>

// ---- cells

static void separate(struct kl_row *r)
{
    if (!r->first)
        kl_buf_putc(r->out, ',');
    r->first = false;
}

void kl_cell(struct kl_row *r, struct kl_str text)
{
    separate(r);
    kl_json_write_string(r->out, text);
}

void kl_cell_int(struct kl_row *r, int64_t i)
{
    separate(r);
    kl_buf_printf(r->out, "%" PRId64, i);
}

void kl_cell_bool(struct kl_row *r, bool b)
{
    separate(r);
    kl_buf_puts(r->out, b ? KL_STR("true") : KL_STR("false"));
}

void kl_cell_or(struct kl_row *r, const struct kl_value *v, const char *otherwise)
{
    kl_cell(r, v ? kl_text(v) : kl_str(otherwise));
}

void kl_cell_nonempty(struct kl_row *r, const struct kl_value *v, const char *otherwise)
{
    kl_cell(r, kl_text(v).n ? kl_text(v) : kl_str(otherwise));
}

void kl_cell_name(struct kl_row *r)
{
    kl_cell(r, kl_meta_name(r->root));
}

void kl_cell_age(struct kl_row *r)
{
    kl_cell_since(r, kl_path(r->root, KL_F_metadata, KL_F_creationTimestamp));
}

void kl_cell_since(struct kl_row *r, const struct kl_value *time)
{
    kl_cell_begin(r);
    kl_cell_put_since(r, time);
    kl_cell_end(r);
}

void kl_cell_begin(struct kl_row *r)
{
    separate(r);
    kl_buf_putc(r->out, '"');
}

void kl_cell_put(struct kl_row *r, struct kl_str s)
{
    // the writer of strings does the escapes; its quotes go
    size_t at = r->out->n;
    kl_json_write_string(r->out, s);
    if (r->out->err)
        return;
    memmove(r->out->p + at, r->out->p + at + 1, r->out->n - at - 2);
    r->out->n -= 2;
}

void kl_cell_put_int(struct kl_row *r, int64_t i)
{
    kl_buf_printf(r->out, "%" PRId64, i);
}

void kl_cell_put_lower(struct kl_row *r, struct kl_str s)
{
    size_t at = r->out->n;
    kl_cell_put(r, s);
    for (size_t i = at; i < r->out->n && !r->out->err; i++)
        if (r->out->p[i] >= 'A' && r->out->p[i] <= 'Z')
            r->out->p[i] = (char)(r->out->p[i] + ('a' - 'A'));
}

void kl_cell_put_since(struct kl_row *r, const struct kl_value *time)
{
    char text[KL_TIME_TEXT];
    int64_t us = kl_int_or(time, KL_TIME_ZERO_US);
    if (us == KL_TIME_ZERO_US)
        kl_cell_puts(r, "<unknown>");
    else
        kl_cell_put(r, (struct kl_str){text, kl_human_duration((r->now_us - us) / 1000000, text)});
}

void kl_cell_end(struct kl_row *r)
{
    kl_buf_putc(r->out, '"');
}

// ---- common cells

void kl_cell_map(struct kl_row *r, const struct kl_value *map)
{
    bool first = true;
    kl_cell_begin(r);
    if (kl_len(map) == 0)
        kl_cell_puts(r, "<none>");
    for (KL_MAP_EACH_KEY(key, map)) {
        if (!first)
            kl_cell_puts(r, ",");
        first = false;
        kl_cell_put(r, kl_text(key));
        kl_cell_puts(r, "=");
        kl_cell_put(r, kl_text(key + 1));
    }
    kl_cell_end(r);
}

void kl_cell_selector(struct kl_row *r, const struct kl_value *selector)
{
    struct kl_arena a;
    struct kl_selector s;
    struct kl_str text = KL_STR("<error>");
    kl_arena_init(&a, 0);
    if (!kl_label_selector_from(&a, selector, &s, NULL)) {
        text = kl_selector_text(&a, &s);
        if (text.n == 0)
            text = KL_STR("<none>");
    }
    kl_cell(r, text);
    kl_arena_fini(&a);
}

void kl_cell_list(struct kl_row *r, const struct kl_value *texts, const char *otherwise)
{
    kl_cell_begin(r);
    if (kl_len(texts) == 0)
        kl_cell_put(r, kl_str(otherwise));
    for (size_t i = 0; i < kl_len(texts); i++) {
        if (i)
            kl_cell_puts(r, ",");
        kl_cell_put(r, kl_text(&texts->items[i]));
    }
    kl_cell_end(r);
}

void kl_cell_containers(struct kl_row *r, const struct kl_value *containers)
{
    static const kl_sym what[] = {KL_F_name, KL_F_image};
    for (size_t w = 0; w < KL_COUNT(what); w++) {
        kl_cell_begin(r);
        for (size_t i = 0; i < kl_len(containers); i++) {
            if (i)
                kl_cell_puts(r, ",");
            kl_cell_put(r, kl_text(kl_get(&containers->items[i], what[w])));
        }
        kl_cell_end(r);
    }
}

void kl_cell_quantity(struct kl_row *r, const struct kl_value *map, struct kl_str key)
{
    kl_cell_nonempty(r, kl_map_value(map, key), "0");
}

bool kl_text_is(const struct kl_value *v, const char *text)
{
    return kl_str_eqz(kl_text(v), text);
}

const struct kl_value *kl_condition(const struct kl_value *list, const char *type)
{
    for (KL_EACH(item, list))
        if (kl_text_is(kl_get(item, KL_F_type), type))
            return item;
    return NULL;
}

const struct kl_value *kl_condition_last(const struct kl_value *list, const char *type)
{
    for (size_t i = kl_len(list); i > 0; i--)
        if (kl_text_is(kl_get(&list->items[i - 1], KL_F_type), type))
            return &list->items[i - 1];
    return NULL;
}

bool kl_condition_is_true(const struct kl_value *condition)
{
    return kl_text_is(kl_get(condition, KL_F_status), "True");
}

bool kl_short_list_add(struct kl_row *r, struct kl_short_list *l)
{
    enum { SHOWN = 3 };
    l->count++;
    if (l->shown == SHOWN)
        return false;
    if (l->shown++)
        kl_cell_puts(r, ",");
    return true;
}

void kl_short_list_end(struct kl_row *r, const struct kl_short_list *l, const char *otherwise)
{
    if (l->count > l->shown) {
        kl_cell_puts(r, " + ");
        kl_cell_put_int(r, (int64_t)(l->count - l->shown));
        kl_cell_puts(r, " more...");
    } else if (l->count == 0) {
        kl_cell_put(r, kl_str(otherwise));
    }
    kl_cell_end(r);
}

void kl_print_name_and_age(struct kl_row *r)
{
    kl_cell_name(r);
    kl_cell_age(r);
}

// What the generic registry prints for kinds without a printer.
void kl_print_default(struct kl_row *r)
{
    char text[KL_TIME_TEXT];
    int64_t us = kl_int_at(r->root, KL_TIME_ZERO_US, KL_F_metadata, KL_F_creationTimestamp);
    kl_cell_name(r);
    kl_cell(r, (struct kl_str){text, kl_time_text(us, text)});
}

// ---- rows

static void print_row(struct kl_buf *out, void (*print)(struct kl_row *r),
                      const struct kl_value *root, int64_t now_us)
{
    struct kl_row r = {.out = out, .root = root, .now_us = now_us, .first = true};
    kl_buf_puts(out, KL_STR("\"cells\":["));
    print(&r);
    kl_buf_putc(out, ']');
    if (r.conditions) {
        kl_buf_puts(out, KL_STR(",\"conditions\":"));
        kl_buf_puts(out, kl_str(r.conditions));
    }
}

static bool is_builtin(const struct kl_resource *r)
{
    return r >= kl_resources && r < kl_resources + kl_nresources;
}

struct kl_str kl_table_columns_json(const struct kl_resource *r)
{
    if (r->custom && r->custom->columns_json)
        return kl_str(r->custom->columns_json);
    return kl_str(is_builtin(r) ? kl_table_rows[r->index].columns : kl_table_custom_columns);
}

void kl_table_cells(struct kl_buf *out, const struct kl_resource *r, const struct kl_value *root,
                    int64_t now_us)
{
    if (r->custom && r->custom->schema) {
        kl_custom_cells(out, r, root, now_us);
        return;
    }
    print_row(out, is_builtin(r) ? kl_table_rows[r->index].print : kl_print_name_and_age, root,
              now_us);
}

struct kl_str kl_table_scale_columns_json(void)
{
    return kl_str(kl_table_scale_columns);
}

void kl_table_scale_cells(struct kl_buf *out, const struct kl_value *root, int64_t now_us)
{
    print_row(out, kl_print_scale, root, now_us);
}
