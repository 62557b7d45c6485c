// Light, dark, or as the device is set. `public/theme.js` applies the choice before the page is drawn.

const key = 'landfall-demo:theme';
export const themes = [['auto', 'As this device'], ['light', 'Light'], ['dark', 'Dark']];

export const theme = () => localStorage.getItem(key) ?? 'auto';

export function setTheme(next) {
  if (next === 'auto') localStorage.removeItem(key);
  else localStorage.setItem(key, next);
  document.documentElement.dataset.theme = next;
}
