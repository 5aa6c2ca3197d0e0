// SPDX-License-Identifier: Apache-2.0
// Writing the cells of one row: what the files with the kinds' functions share.
#pragma once
#include "object/table.h"

struct kl_row {
    struct kl_buf *out;
    const struct kl_value *root;
    int64_t now_us;
    bool first;             // no cell yet
    const char *conditions; // JSON to follow the cells, or NULL
};

// Cells of one value.
void kl_cell(struct kl_row *r, struct kl_str text);
void kl_cell_int(struct kl_row *r, int64_t i);
void kl_cell_bool(struct kl_row *r, bool b);
// The text, or `otherwise` when the value is absent.
void kl_cell_or(struct kl_row *r, const struct kl_value *v, const char *otherwise);
// The text, or `otherwise` when it is empty or absent.
void kl_cell_nonempty(struct kl_row *r, const struct kl_value *v, const char *otherwise);
void kl_cell_name(struct kl_row *r);
void kl_cell_age(struct kl_row *r); // since metadata.creationTimestamp
void kl_cell_since(struct kl_row *r, const struct kl_value *time);

// A cell of several pieces: begin, pieces, end.
void kl_cell_begin(struct kl_row *r);
void kl_cell_put(struct kl_row *r, struct kl_str s);
#define kl_cell_puts(r, literal) kl_cell_put((r), KL_STR(literal))
void kl_cell_put_int(struct kl_row *r, int64_t i);
void kl_cell_put_lower(struct kl_row *r, struct kl_str s);
void kl_cell_put_since(struct kl_row *r, const struct kl_value *time);
void kl_cell_end(struct kl_row *r);

// Common cells.
void kl_cell_map(struct kl_row *r, const struct kl_value *map);           // a=b,c=d or <none>
void kl_cell_selector(struct kl_row *r, const struct kl_value *selector); // or <none>, <error>
void kl_cell_list(struct kl_row *r, const struct kl_value *texts, const char *otherwise);
void kl_cell_containers(struct kl_row *r, const struct kl_value *containers); // two: names, images
void kl_cell_quantity(struct kl_row *r, const struct kl_value *map, struct kl_str key); // or 0
// The entry of a list whose `type` is this, the first (or last) one; NULL when there is none.
const struct kl_value *kl_condition(const struct kl_value *list, const char *type);
const struct kl_value *kl_condition_last(const struct kl_value *list, const char *type);
bool kl_condition_is_true(const struct kl_value *condition);
bool kl_text_is(const struct kl_value *v, const char *text);

// Up to three of a long list: add each, then end; what is left over is counted.
struct kl_short_list {
    size_t shown, count;
};
bool kl_short_list_add(struct kl_row *r, struct kl_short_list *l); // whether to put the element
void kl_short_list_end(struct kl_row *r, const struct kl_short_list *l, const char *otherwise);

struct kl_table_row {
    void (*print)(struct kl_row *r);
    const char *columns; // JSON array
};
extern const struct kl_table_row kl_table_rows[]; // by resource index; from gen_columns.py
extern const char *const kl_table_custom_columns, *const kl_table_scale_columns;

void kl_print_autoscaler_v1(struct kl_row *r);
#define X(resource, function) void function(struct kl_row *r);
#include "object/table_list.h"
#undef X
