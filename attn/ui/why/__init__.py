"""Why a head looks where it looks: the graph of the earlier looks that its look is made of."""
