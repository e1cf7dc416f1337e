/*-------------------------------------------------------------------------
 *
 * parse.h
 *	  Private to plan/: places in a pipeline's text, and the text of views.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_PLAN_PARSE_H
#define STREAMPROC_PLAN_PARSE_H

#include "nodes/parsenodes.h"

/* The position (characters, from 1) of a location (bytes, from 0); 0: none. */
extern int	text_position(const char *text, int location);
/* Where the text first names the relation ("read": but as target of an INSERT); -1: nowhere. */
extern int	text_relation_location(const char *text, Oid relid, bool read);
/* The query of a view, a copy without the entries for OLD and NEW. */
extern Query *view_query(Oid view);

#endif							/* STREAMPROC_PLAN_PARSE_H */
