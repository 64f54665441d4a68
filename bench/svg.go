package bench

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// chart is a line plot. It is drawn as SVG that stands for itself.
type chart struct {
	title, x, y string
	logX, logY  bool
	series      []series
	ticksX      []tick // instead of computed ones
}

type series struct {
	name   string
	points []point
}

type point struct{ x, y float64 }

type tick struct {
	at   float64
	text string
}

// Size of a chart in pixels, and of the room around the plot.
const (
	chartW, chartH                           = 640, 320
	roomLeft, roomRight, roomTop, roomBottom = 76, 150, 30, 44
)

var colours = []string{"#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f"}

// axis maps values to pixels.
type axis struct {
	min, max float64
	log      bool
	from, to float64
}

func newAxis(values []float64, log bool, from, to float64) axis {
	a := axis{min: math.Inf(1), max: math.Inf(-1), log: log, from: from, to: to}
	for _, v := range values {
		a.min, a.max = min(a.min, v), max(a.max, v)
	}
	if log {
		a.min = math.Pow(10, math.Floor(math.Log10(max(a.min, 1e-9))))
		a.max = math.Pow(10, math.Ceil(math.Log10(max(a.max, a.min*1.01))))
	} else {
		a.min = min(0, a.min)
	}
	if a.max <= a.min {
		a.max = a.min + 1
	}
	return a
}

func (a axis) pixel(v float64) float64 {
	lo, hi := a.min, a.max
	if a.log {
		v, lo, hi = math.Log10(max(v, a.min)), math.Log10(lo), math.Log10(hi)
	}
	return a.from + (v-lo)/(hi-lo)*(a.to-a.from)
}

// ticks are round values: powers of ten, or about five steps of 1, 2 or 5.
func (a axis) ticks() (list []tick) {
	if a.log {
		for v := a.min; v <= a.max*1.001; v *= 10 {
			list = append(list, tick{v, short(v)})
		}
		return list
	}
	step := math.Pow(10, math.Floor(math.Log10((a.max-a.min)/5)))
	for _, f := range []float64{1, 2, 5, 10} {
		if (a.max-a.min)/(step*f) <= 6 {
			step *= f
			break
		}
	}
	for v := math.Ceil(a.min/step) * step; v <= a.max+step/1e6; v += step {
		list = append(list, tick{v, short(v)})
	}
	return list
}

// short is a number with k, M or G.
func short(v float64) string {
	for _, u := range []struct {
		at   float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if math.Abs(v) >= u.at {
			return fmt.Sprintf("%.4g%s", v/u.at, u.name)
		}
	}
	return fmt.Sprintf("%.4g", v)
}

// svg draws the chart; nothing if it has no points.
func (c *chart) svg() string {
	var xs, ys []float64
	for _, s := range c.series {
		for _, p := range s.points {
			xs, ys = append(xs, p.x), append(ys, p.y)
		}
	}
	if len(xs) == 0 {
		return ""
	}
	ax := newAxis(xs, c.logX, roomLeft, chartW-roomRight)
	ay := newAxis(ys, c.logY, chartH-roomBottom, roomTop)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" role="img" aria-label="%s">`, chartW, chartH, chartW, html.EscapeString(c.title))
	fmt.Fprintf(&b, `<text x="%d" y="18" class="t">%s</text>`, roomLeft, html.EscapeString(c.title))
	c.grid(&b, ax, ay)
	for i, s := range c.series {
		drawSeries(&b, s, colours[i%len(colours)], i, ax, ay)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (c *chart) grid(b *strings.Builder, ax, ay axis) {
	ticks := c.ticksX
	if ticks == nil {
		ticks = ax.ticks()
	}
	for _, t := range ticks {
		if t.at > ax.max {
			break
		}
		x := ax.pixel(t.at)
		fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" class="g"/><text x="%.1f" y="%d" class="l" text-anchor="middle">%s</text>`,
			x, roomTop, x, chartH-roomBottom, x, chartH-roomBottom+16, html.EscapeString(t.text))
	}
	for _, t := range ay.ticks() {
		y := ay.pixel(t.at)
		fmt.Fprintf(b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" class="g"/><text x="%d" y="%.1f" class="l" text-anchor="end">%s</text>`,
			roomLeft, y, chartW-roomRight, y, roomLeft-6, y+4, html.EscapeString(t.text))
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" class="l" text-anchor="middle">%s</text>`, (roomLeft+chartW-roomRight)/2, chartH-8, html.EscapeString(c.x))
	fmt.Fprintf(b, `<text transform="translate(14 %d) rotate(-90)" class="l" text-anchor="middle">%s</text>`, (roomTop+chartH-roomBottom)/2, html.EscapeString(c.y))
}

func drawSeries(b *strings.Builder, s series, colour string, i int, ax, ay axis) {
	fmt.Fprintf(b, `<polyline fill="none" stroke="%s" stroke-width="2" points="`, colour)
	for _, p := range s.points {
		fmt.Fprintf(b, "%.1f,%.1f ", ax.pixel(p.x), ay.pixel(p.y))
	}
	b.WriteString(`"/>`)
	if len(s.points) <= 30 {
		for _, p := range s.points {
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="2.5" fill="%s"><title>%s: %s</title></circle>`, ax.pixel(p.x), ay.pixel(p.y), colour, short(p.x), short(p.y))
		}
	}
	y := roomTop + 12 + 18*i
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="12" height="3" fill="%s"/><text x="%d" y="%d" class="l">%s</text>`,
		chartW-roomRight+10, y-4, colour, chartW-roomRight+28, y, html.EscapeString(s.name))
}
