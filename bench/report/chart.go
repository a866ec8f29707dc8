package report

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
)

var colors = map[string]color.Color{
	Usher:      color.RGBA{0x0b, 0x6e, 0x4f, 0xff},
	Other:      color.RGBA{0x6f, 0xb9, 0x8f, 0xff},
	"nginx":    color.RGBA{0x5b, 0x7d, 0xb1, 0xff},
	"HAProxy":  color.RGBA{0xd0, 0x8c, 0x3f, 0xff},
	"Caddy":    color.RGBA{0x9a, 0x7b, 0xb0, 0xff},
	"sniproxy": color.RGBA{0x8a, 0x8a, 0x8a, 0xff},
}

const (
	chartWidth = 1200
	labelWidth = 330
	barHeight  = 15
	barGap     = 3
	rowGap     = 14
	headHeight = 92
	longest    = 4.0 // ratio at which a bar is cut off
)

// canvas draws text and bars.
type canvas struct {
	*image.RGBA
	plain, bold font.Face
}

// Chart draws, for each row with a ratio, what every proxy spends beside the
// best peer.
func (r *Run) Chart(path string) error {
	var rows []*Row
	height := headHeight
	for _, row := range r.Rows {
		if row.Best != "" && row.Fault == "" && !row.Own {
			rows = append(rows, row)
			height += len(row.By)*(barHeight+barGap) + rowGap
		}
	}
	if len(rows) == 0 {
		return fmt.Errorf("chart %s: the run has no row with a peer", path)
	}
	c := &canvas{RGBA: image.NewRGBA(image.Rect(0, 0, chartWidth, height+30))}
	var err error
	if c.plain, err = face(goregular.TTF, 13); err != nil {
		return err
	}
	if c.bold, err = face(gobold.TTF, 15); err != nil {
		return err
	}
	c.bar(c.Bounds(), color.White)
	c.text(c.bold, 16, 28, "CPU time or memory for the same work, best peer = 1. Shorter is better.")
	c.text(c.plain, 16, 50, fmt.Sprintf("%s, Linux %s, %s. Proxy on one core, load and backend on another.", r.Machine, r.Kernel, r.Time.Format("2006-01-02")))
	x := 16
	for _, name := range r.Proxies {
		c.bar(image.Rect(x, 63, x+14, 77), colors[name])
		c.text(c.plain, x+20, 75, name)
		x += 110
	}
	c.rows(rows, r.Proxies, height)
	return c.save(path)
}

func (c *canvas) rows(rows []*Row, proxies []string, height int) {
	scale := float64(chartWidth-labelWidth-150) / longest
	one := labelWidth + int(scale)
	c.bar(image.Rect(one, headHeight-6, one+1, height), color.Gray{0xc0})
	y := headHeight
	for _, row := range rows {
		c.text(c.plain, 16, y+barHeight-3, row.Name)
		for _, name := range proxies {
			f := row.By[name]
			if f == nil {
				continue
			}
			ratio := f.Value / row.By[row.Best].Value
			length := int(min(max(ratio, 0.01), longest) * scale)
			c.bar(image.Rect(labelWidth, y, labelWidth+length, y+barHeight), colors[name])
			label := fmt.Sprintf("%.2f  (%s %s)", ratio, number(f.Value), row.Unit)
			if ratio > longest {
				label = "» " + label
			}
			c.text(c.plain, labelWidth+length+6, y+barHeight-3, label)
			y += barHeight + barGap
		}
		y += rowGap
	}
}

func face(ttf []byte, size float64) (font.Face, error) {
	f, err := opentype.Parse(ttf)
	if err != nil {
		return nil, err
	}
	return opentype.NewFace(f, &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingFull})
}

func (c *canvas) bar(r image.Rectangle, fill color.Color) {
	draw.Draw(c, r, image.NewUniform(fill), image.Point{}, draw.Src)
}

func (c *canvas) text(f font.Face, x, y int, s string) {
	d := font.Drawer{Dst: c, Src: image.NewUniform(color.Gray{0x20}), Face: f, Dot: fixed.P(x, y)}
	d.DrawString(s)
}

func (c *canvas) save(path string) error {
	f, err := os.Create(filepath.Clean(path))
	if err != nil {
		return err
	}
	if err := png.Encode(f, c); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
