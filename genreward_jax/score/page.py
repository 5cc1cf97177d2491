def page(score, png): return ""
