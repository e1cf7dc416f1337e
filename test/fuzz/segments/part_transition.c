/*-------------------------------------------------------------------------
 *
 * part_transition.c
 *	  operator/transition.c, whose values are looked at.
 *
 *-------------------------------------------------------------------------
 */
#include "../../../src/operator/transition.c"

#include "segments.h"

void
part_transition(OperatorSpec *spec, AggregateSpec *agg, const char *fixed, const char *base)
{
	Transition *t = agg->transition;

	transition_begin(spec, agg, fixed, base);
	touch_datum(t->value, t->isnull, t->internal ? -1 : t->len, t->byval && !t->internal);
}
