// The texts within an element that are hard to read: each with its contrast, colour and ground, if the contrast is below 4.5.
(root) => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const known = new Map();
  function parts(color) {
    if (!known.has(color)) known.set(color, drawn(color));
    return known.get(color);
  }
  function drawn(color) {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  }
  function over([red, green, blue, alpha], ground) {
    return [red, green, blue].map((part, at) => part * alpha + ground[at] * (1 - alpha));
  }
  function light(color) {
    const linear = color.map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  }
  function lineage(element) {
    const found = [];
    for (let one = element; one; one = one.parentElement) found.unshift(one);
    return found;
  }
  const found = [];
  const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  let read = 0;
  for (let node; (node = texts.nextNode()); ) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility() || element.tagName === "STYLE") continue;
    read += 1;
    let ground = [255, 255, 255];
    let opacity = 1;
    for (const one of lineage(element)) {
      const style = getComputedStyle(one);
      ground = over(parts(style.backgroundColor), ground);
      if (root.contains(one)) opacity *= Number(style.opacity);
    }
    const [red, green, blue, alpha] = parts(getComputedStyle(element).color);
    const color = over([red, green, blue, alpha * opacity], ground);
    const [bright, dark] = [light(color), light(ground)].sort((a, b) => b - a);
    const contrast = (bright + 0.05) / (dark + 0.05);
    if (contrast < 4.5) found.push([node.data.trim().slice(0, 40), contrast, color.map(Math.round), ground.map(Math.round)]);
  }
  if (read === 0) throw new Error("there is no text");
  return found;
}
